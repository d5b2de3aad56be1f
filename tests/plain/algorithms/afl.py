"""Agnostic FL: descent in w weighted by λ, projected ascent in λ on the cohort's losses."""

import numpy as np


def init_server(w, num_clients):
    return np.full(num_clients, 1 / num_clients)


def client(c, w, received, own):
    share = received[c.number] / c.weight
    return {
        "update": share * c.train().update,
        "weighted": share,
        "each": c.loss(w, c.rows),
    }, own


def server(w, state, upload, numbers, cohort):
    if upload["weighted"] > 0:
        w = w - numbers["server_learning_rate"] * upload["update"] / upload["weighted"]
    raised = state.copy()
    for i, loss in upload["each"].items():
        raised[i] += numbers["mixture_learning_rate"] * len(state) / len(cohort) * loss
    return w, projected(raised)


def projected(y):
    """The nearest point of the simplex: max(y − θ, 0) with the θ for which it sums to 1."""
    low, high = y.min() - 1, y.max()
    for _ in range(200):
        theta = (low + high) / 2
        low, high = (theta, high) if np.maximum(y - theta, 0).sum() > 1 else (low, theta)
    return np.maximum(y - theta, 0)
