"""Drawn one after another with probabilities in proportion to sizes: the Gumbel trick."""

import itertools

import jax
import numpy as np


def sample(key, t, sizes, size, numbers=None, state=None, losses=None):
    noise = np.asarray(jax.random.gumbel(key, (len(sizes),), np.float32))
    scores = [np.log(n) + g if n else -np.inf for n, g in zip(sizes, noise, strict=True)]
    clients = sorted(np.argsort(-np.asarray(scores), kind="stable")[:size].tolist())
    return clients, [1.0] * size


def probabilities(sizes, size):
    """The probability of every cohort, a frozenset: all orders in which it can be drawn."""
    found = {}
    for order in itertools.permutations(range(len(sizes)), size):
        chance, left = 1.0, sum(sizes)
        for i in order:
            chance, left = chance * sizes[i] / left, left - sizes[i]
        found[frozenset(order)] = found.get(frozenset(order), 0.0) + chance
    return found


def inclusion(sizes, size):
    """[N], the probability of each client to be in the cohort."""
    total = np.zeros(len(sizes))
    for cohort, chance in probabilities(sizes, size).items():
        total[list(cohort)] += chance
    return total
