import numpy as np

from tests.plain.aggregators.krum import score


def aggregate(updates, weights, numbers, state=()):
    n = len(updates)
    f = min(int(numbers["num_malicious"]), max((n - 3) // 4, 0))
    theta = n - 2 * f

    left, chosen = list(range(n)), []
    while len(chosen) < theta:
        neighbours = max(len(left) - f - 2, 2)
        scores = [score(updates, i, left, neighbours) for i in left]
        chosen.append(left.pop(int(np.argmin(scores))))

    beta = theta - 2 * f
    update = []
    for values in updates[chosen].T:
        nearest = np.argsort(np.abs(values - np.median(values)))[:beta]
        update.append(np.mean(values[nearest]))
    return np.array(update), state
