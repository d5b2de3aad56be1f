r"""Cohorts drawn evenly: every set of clients of the cohort's size is as likely as any other.

Their updates are averaged by numbers of examples, $p_i \propto n_i$, as in FedAvg (McMahan et al.,
arXiv 1602.05629), or evenly.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.samplers.base import Cohort, Population, Sampler
from fedjax_ecgr.types import Array, Hyperparameters, PyTree

WEIGHTINGS = {"size": "by numbers of examples", "even": "all alike"}
"""How clients' updates are weighted."""


def uniform(weighting: str = "size") -> Sampler:
    """Returns the sampler that draws clients evenly, without replacement.

    Args:
      weighting: of their updates: `size`, by numbers of examples, or `even`.

    Raises:
      InputError: for an unknown weighting.

    Example:
      >>> uniform().name
      'uniform'
    """
    check.known("weighting", weighting, WEIGHTINGS)

    def sample(
        key: Array,
        state: PyTree,
        population: Population,
        cohort_size: int,
        hyperparameters: Hyperparameters,
    ) -> Cohort:
        del state, hyperparameters
        clients = draw(key, population.sizes.shape[0], cohort_size)
        return weighted(clients, population, weighting)

    return Sampler("uniform", {}, sample)


def weighted(clients: Array, population: Population, weighting: str) -> Cohort:
    """Returns the cohort of the clients given, weighted by size or evenly."""
    sizes = population.sizes[clients].astype(float)
    return Cohort(clients, sizes if weighting == "size" else jnp.ones_like(sizes))


def draw(key: Array, num_clients: int, cohort_size: int) -> Array:
    """Returns the cohort: [cohort_size] int32, without replacement, in order of client number."""
    if cohort_size == num_clients:
        return jnp.arange(num_clients, dtype=jnp.int32)
    # The clients of the largest draws. Numbers of 30 bits are read as positive floats, in the same
    # order, of which alone the largest are found fast: 1 ms of 100,000, a permutation takes 46.
    draws = (jax.random.bits(key, (num_clients,), jnp.uint32) >> 2) + jnp.uint32(0x00800000)
    draws = jax.lax.bitcast_convert_type(draws, jnp.float32)
    return jnp.sort(jax.lax.top_k(draws, cohort_size)[1])
