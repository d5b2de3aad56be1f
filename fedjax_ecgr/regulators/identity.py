"""The plain algorithm: a client uploads the sum of its step deltas."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.regulators.base import Array, PyTree, Regulator


def identity() -> Regulator:
    r"""Returns the regulator that leaves the update as it is, the sum of the step deltas.

    $u = \sum_\lambda d_\lambda$.

    Example:
      >>> regulator = identity()
      >>> state = regulator.init({"w": jnp.zeros(2)}, max_steps=2)
      >>> state = regulator.update({"w": jnp.array([1.0, 0.0])}, state)
      >>> state = regulator.update({"w": jnp.array([2.0, 1.0])}, state)
      >>> update, info = regulator.finalize(state)
      >>> update["w"].tolist()
      [3.0, 1.0]
    """
    return Regulator("identity", {}, _init, _update, _finalize)


def _init(
    params: PyTree, max_steps: int, hyperparameters: Mapping[str, Any] | None = None
) -> PyTree:
    del max_steps, hyperparameters
    return jax.tree.map(jnp.zeros_like, params)


def _update(delta: PyTree, state: PyTree, active: Array | bool = True) -> PyTree:
    return jax.tree.map(lambda total, d: jnp.where(active, total + d, total), state, delta)


def _finalize(state: PyTree) -> tuple[PyTree, PyTree]:
    return state, ()
