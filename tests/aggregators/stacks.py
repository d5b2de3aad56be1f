"""Cohorts of updates for the tests, and a rule run on one."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr.aggregators import AGGREGATORS
from fedjax_ecgr.aggregators.base import Received

CLIENTS, SIZE = 11, 7


def draw(seed, clients=CLIENTS, size=SIZE):
    return np.random.default_rng(seed).normal(size=(clients, size)) + 0.5


def as_tree(flat):
    """The same updates as a tree of two leaves, one of them of matrices."""
    return {"b": flat[..., :1], "w": flat[..., 1:].reshape(*flat.shape[:-1], -1, 2)}


def flatten(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def weights_of(present, seed=0):
    sizes = np.where(present, np.random.default_rng(seed).integers(1, 9, len(present)), 0)
    return sizes / max(sizes.sum(), 1)


def received(present, weights, numbers, dtype):
    return Received(
        clients=jnp.arange(len(present), dtype=jnp.int32),
        weights=jnp.asarray(weights, dtype),
        present=jnp.asarray(present),
        params=as_tree(jnp.zeros(SIZE, dtype)),
        key=jax.random.key(0),
        hyperparameters={name: jnp.asarray(x, dtype) for name, x in numbers.items()},
    )


@cache
def compiled(name):
    return jax.jit(AGGREGATORS[name]().aggregate)


def start(name, dtype):
    return AGGREGATORS[name]().init(as_tree(jnp.zeros(SIZE, dtype)))


def run(name, flat, present=None, *, numbers=None, weights=None, dtype=float, state=None):
    """Returns `(update [P], state)` of a rule, jitted, in the present default precision."""
    flat = np.asarray(flat)
    present = np.ones(len(flat), bool) if present is None else np.asarray(present)
    weights = weights_of(present) if weights is None else weights
    given = {**AGGREGATORS[name]().hyperparameters, **(numbers or {})}
    dtype = jnp.zeros((), dtype).dtype
    state = start(name, dtype) if state is None else state
    update, state = compiled(name)(
        as_tree(jnp.asarray(flat, dtype)), state, received(present, weights, given, dtype)
    )
    assert jax.tree.structure(update) == jax.tree.structure(as_tree(np.zeros(SIZE)))
    return flatten(update), state
