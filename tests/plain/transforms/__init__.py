"""Transforms in NumPy, over one flat vector; what is drawn is handed in."""

import numpy as np


def clip(v, max_norm):
    return v * min(1.0, max_norm / np.linalg.norm(v)) if np.any(v) else v


def keep(v, indices):
    """Of a vector the entries named, else 0."""
    kept = np.zeros_like(v)
    kept[indices] = v[indices]
    return kept


def top_k(v, error, k):
    """What is sent of v + error, and the error left."""
    whole = v + error
    order = sorted(range(len(whole)), key=lambda i: -abs(whole[i]))
    sent = keep(whole, order[:k])
    return sent, whole - sent


def qsgd_levels(v, levels):
    """The level below each entry, and the probability of the one above."""
    exact = levels * np.abs(v) / np.linalg.norm(v)
    return np.floor(exact), exact - np.floor(exact)
