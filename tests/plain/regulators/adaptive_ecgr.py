"""Adaptive ECGR, by the cosine: a client's memory is its β, None before its first round."""

import numpy as np

from tests.plain.ecgr import ecgr


def cosine(deltas, update):
    total = deltas.sum(axis=0)
    lengths = np.linalg.norm(total) * np.linalg.norm(update)
    return total @ update / lengths if lengths else 1.0


def spread(deltas):
    total, energy = deltas.sum(axis=0), np.sum(deltas**2)
    return 1 - total @ total / (len(deltas) * energy) if energy else 0.0


def regulate(deltas, numbers, memory, direction):
    beta = numbers["beta"] if memory is None else memory
    update, _ = ecgr(deltas, beta, numbers["select_ratio"])
    turned = numbers["target"] - cosine(deltas, update)
    return update, float(np.clip(beta + numbers["rate"] * turned, 0, 1))


def regulate_by_spread(deltas, numbers, memory, direction):
    beta = numbers["beta"] if memory is None else memory
    update, _ = ecgr(deltas, beta, numbers["select_ratio"])
    return update, beta + numbers["rate"] * (1 - spread(deltas) - beta)
