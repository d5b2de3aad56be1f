import numpy as np


def aggregate(updates, weights, numbers, state=()):
    return np.median(updates, axis=0), state
