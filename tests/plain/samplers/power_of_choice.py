"""Power of choice: of d candidates, those with the largest losses."""

import jax
import numpy as np

from tests.plain.samplers import by_size


def candidates(key, sizes, d):
    """The candidates in the order in which equal losses are preferred."""
    drawn, _ = by_size.sample(key, 0, sizes, d)
    order = jax.random.permutation(jax.random.fold_in(key, 1), np.array(drawn, np.int32))
    return np.asarray(order).tolist()


def sample(key, t, sizes, size, numbers, state, losses=None):
    """With `losses` those of the present model, else those last heard of, the state."""
    drawn = candidates(key, sizes, numbers["candidates"])
    known = [(losses(i) if losses else state[i]) if sizes[i] else -np.inf for i in drawn]
    best = np.argsort(-np.asarray(known), kind="stable")[:size]
    return sorted(drawn[j] for j in best), [1.0] * size


def init(num_clients):
    return [np.inf] * num_clients


def update(state, clients, present, losses):
    new = list(state)
    for i, there, loss in zip(clients, present, losses, strict=True):
        if there:
            new[i] = float(loss)
    return new
