r"""Clients that can be reached at times only, as by day and night in their time zones.

Client i is available in round t where

$$(t + o_i) \bmod T < s\,T,$$

T being the period, s the share of it, and the offset $o_i$ the client's own, spread evenly over the
period in an order drawn once a run. Cohorts are drawn evenly from those who are available; where
these are fewer than the cohort, the rest of it does not take part (as in the evaluation of Eichner
et al., arXiv 1904.10120, whose blocks of the day this is).
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.samplers.base import Cohort, Population, Sampler
from fedjax_ecgr.types import Array, Hyperparameters, PyTree


def availability(
    period: float | Array = 24.0, available_share: float | Array = 0.25, offset_seed: int = 0
) -> Sampler:
    """Returns the sampler that draws evenly from those who are available in the round.

    Args:
      period: T ≥ 1, in rounds.
      available_share: s in (0, 1], of the period that a client is available.
      offset_seed: of the order in which clients come.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> availability(period=10).hyperparameters["period"]
      10
    """
    check.number("period", period, low=1)
    check.number("available_share", available_share, low=0, high=1, low_open=True)
    check.count("offset_seed", offset_seed, low=0)
    numbers = {"period": period, "available_share": available_share}

    def init(num_clients: int) -> Array:
        key = jax.random.key(offset_seed, impl="threefry2x32")
        return jax.random.permutation(key, jnp.arange(num_clients, dtype=jnp.int32))

    return Sampler("availability", numbers, _sample, init)


def _sample(
    key: Array,
    state: PyTree,
    population: Population,
    cohort_size: int,
    hyperparameters: Hyperparameters,
) -> Cohort:
    numbers = {name: x.astype(jnp.float32) for name, x in hyperparameters.items()}
    there = is_available(state, population.round, **numbers)
    draws = jax.random.uniform(key, state.shape, jnp.float32)
    clients = jnp.sort(jax.lax.top_k(jnp.where(there, 1 + draws, draws), cohort_size)[1])
    weights = jnp.where(there[clients], population.sizes[clients], 0)
    return Cohort(clients, weights.astype(float))


def is_available(order: Array, round_index: Array, period: Array, available_share: Array) -> Array:
    """Returns [N] bool: who is available, from each client's place in the order."""
    offsets = order.astype(jnp.float32) / order.shape[0] * period
    # a little late, lest rounding tells rounds from each other in which a window just begins
    offsets = offsets + 1e-6 * period
    since = jnp.mod(round_index.astype(jnp.float32), period)
    return jnp.mod(since + offsets, period) < available_share * period
