"""ECGR in NumPy, as the paper writes it."""

import numpy as np


def select(deltas, k, rule):
    """The k convergent steps of [τ, P] deltas, in the order chosen."""
    tau, mean = len(deltas), deltas.mean(axis=0)
    if rule == "greedy":
        chosen, total = [], np.zeros_like(mean)
        for _ in range(k):
            left = [step for step in range(tau) if step not in chosen]
            best = min(left, key=lambda step: np.linalg.norm(total + deltas[step]))
            chosen.append(best)
            total = total + deltas[best]
        return chosen
    if rule == "smallest_norm":
        scores = [np.linalg.norm(d) for d in deltas]
    elif rule == "nearest_mean":
        scores = [np.linalg.norm(d - mean) for d in deltas]
    elif rule == "cosine_mean":
        norms = [np.linalg.norm(d) * np.linalg.norm(mean) for d in deltas]
        scores = [
            -(d @ mean) / norm if norm else 0.0 for d, norm in zip(deltas, norms, strict=True)
        ]
    return sorted(range(tau), key=lambda step: scores[step])[:k]


def ecgr(deltas, beta, select_ratio, rule="greedy"):
    """The regulated update of [τ, P] deltas, and the convergent steps."""
    tau = len(deltas)
    k = max(1, int(np.floor(tau * select_ratio)))
    convergent = select(deltas, k, rule)
    exploratory = [step for step in range(tau) if step not in convergent]
    u = deltas[convergent].sum(axis=0) + beta * deltas[exploratory].sum(axis=0)
    total = deltas.sum(axis=0)
    if np.linalg.norm(u) == 0:
        return total, convergent
    return u * np.linalg.norm(total) / np.linalg.norm(u), convergent
