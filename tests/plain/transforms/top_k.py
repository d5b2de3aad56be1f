"""Top-k with error feedback."""

import numpy as np


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
