import numpy as np

ITERATIONS = 8


def aggregate(updates, weights, numbers, state=()):
    v = np.zeros(updates.shape[1])
    for _ in range(ITERATIONS):
        distances = np.linalg.norm(updates - v, axis=1)
        beta = weights / np.maximum(numbers["smoothing"], distances)
        v = beta @ updates / beta.sum()
    return v, state
