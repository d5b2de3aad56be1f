"""The plain algorithm: a client uploads the sum of its step deltas."""

import jax.numpy as jnp  # noqa: F401 — for the example

from fedjax_ecgr.regulators.base import Given, Regulator
from fedjax_ecgr.types import Array, PyTree


def identity() -> Regulator:
    r"""Returns the regulator that leaves the update as it is, the sum of the step deltas.

    $u = \sum_\lambda d_\lambda = w_0 - w_\tau$, of which nothing need be kept on the way.

    Example:
      >>> regulator = identity()
      >>> state = regulator.init({"w": jnp.zeros(2)}, max_steps=2)
      >>> state = regulator.update({"w": jnp.array([1.0, 0.0])}, state)
      >>> state = regulator.update({"w": jnp.array([2.0, 1.0])}, state)
      >>> update, info = regulator.finalize(state, {"w": jnp.array([3.0, 1.0])})
      >>> update["w"].tolist()
      [3.0, 1.0]
    """
    return Regulator("identity", {}, _init, _update, _finalize)


def _init(params: PyTree, max_steps: int, given: Given | None = None) -> PyTree:
    del params, max_steps, given
    return ()


def _update(delta: PyTree, state: PyTree, active: Array | bool = True) -> PyTree:
    del delta, active
    return state


def _finalize(state: PyTree, total: PyTree, given: Given | None = None) -> tuple[PyTree, PyTree]:
    del given
    return total, state
