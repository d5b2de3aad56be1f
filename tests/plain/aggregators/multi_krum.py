import numpy as np

from tests.plain.aggregators.krum import lowered, score


def aggregate(updates, weights, numbers, state=()):
    n = len(updates)
    f = lowered(numbers["num_malicious"], n)
    m = min(int(numbers.get("num_selected", n - f)), n)
    scores = [score(updates, i, range(n), n - f - 2) for i in range(n)]
    best = sorted(range(n), key=lambda i: scores[i])[:m]
    return np.mean([updates[i] for i in best], axis=0), state
