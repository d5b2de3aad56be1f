"""The sum of the deltas, no longer than a bound."""

import numpy as np


def regulate(deltas, numbers, memory, direction):
    total = deltas.sum(axis=0)
    return total * min(1.0, numbers["max_norm"] / np.linalg.norm(total)), memory
