r"""The contract of an aggregator: what a server that will not average makes of all updates.

The weighted mean needs none of this: it is a running sum over clients, and no update is kept. An
aggregator sees all of a cohort's updates at once, stacked, which takes |cohort| × P numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class Received(NamedTuple):
    """What the server knows of a cohort when it aggregates.

    Attributes:
      clients: [c] int32, who took part.
      weights: [c], p_i: they sum to 1, and are 0 for a client that sent nothing.
      present: [c] bool, who sent something. Rows of the others are zeros and must not count. Nor
        does a row with a NaN or Inf, which a malicious client may send.
      params: w_t, the global parameters the cohort started from.
      key: the aggregator's randomness in this round.
      hyperparameters: the aggregator's numbers.
    """

    clients: Array
    weights: Array
    present: Array
    params: PyTree
    key: Array
    hyperparameters: Hyperparameters


class Aggregator(NamedTuple):
    """A way to aggregate, as pure functions.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      init: `params -> state` before the first round; `()` where none is kept.
      aggregate: `(updates, state, received) -> (update, state)`: from [c, ...] leaves to one update
        like the parameters.
      check: `cohort_size -> None`: raises `InputError` if the numbers ask for more clients than
        there are; called before anything is compiled.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    init: Callable[[PyTree], PyTree]
    aggregate: Callable[[PyTree, PyTree, Received], tuple[PyTree, PyTree]]
    check: Callable[[int], None] = lambda cohort_size: None


def mean(updates: PyTree, state: PyTree, received: Received) -> tuple[PyTree, PyTree]:
    """Σ p_i u_i of stacked updates: what the running sum computes without them."""

    def weighted(u: Array) -> Array:
        # an accelerator's default precision would round the updates first
        return jnp.tensordot(received.weights, u, axes=1, precision=jax.lax.Precision.HIGHEST)

    return jax.tree.map(weighted, updates), state
