"""QSGD of one layer."""

import numpy as np


def levels(v, number):
    """The level below each entry, and the probability of the one above."""
    exact = number * np.abs(v) / np.linalg.norm(v)
    return np.floor(exact), exact - np.floor(exact)
