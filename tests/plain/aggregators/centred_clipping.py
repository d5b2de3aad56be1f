import numpy as np

ITERATIONS = 1


def init(size):
    return np.zeros(size)


def aggregate(updates, weights, numbers, state):
    v, tau = state, numbers["radius"]
    for _ in range(ITERATIONS):
        moved = np.zeros_like(v)
        for u in updates:
            distance = np.linalg.norm(u - v)
            moved += (u - v) * (min(1, tau / distance) if distance > 0 else 1)
        v = v + moved / len(updates)
    return v, v
