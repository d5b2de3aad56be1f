r"""Cohorts drawn in proportion to numbers of examples, averaged evenly.

The first client is drawn with probability $n_i / \sum_j n_j$, the next one so of those that are
left, and so on (the scheme of the FedProx paper, Li et al., arXiv 1812.06127, but without
replacement): the largest of $\log n_i + g_i$ with $g_i$ standard Gumbel draws.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr.samplers.base import Cohort, Population, Sampler
from fedjax_ecgr.types import Array, Hyperparameters, PyTree


def by_size() -> Sampler:
    """Returns the sampler that draws clients by numbers of examples, and averages them evenly.

    Example:
      >>> by_size().name
      'by_size'
    """
    return Sampler("by_size", {}, _sample)


def _sample(
    key: Array,
    state: PyTree,
    population: Population,
    cohort_size: int,
    hyperparameters: Hyperparameters,
) -> Cohort:
    del state, hyperparameters
    clients = draw_by(key, population.sizes, cohort_size)
    return Cohort(clients, jnp.ones(cohort_size))


def draw_by(key: Array, sizes: Array, number: int) -> Array:
    """Draws clients without replacement, with probabilities ∝ sizes: [number] int32, in order."""
    scores = jnp.log(sizes.astype(jnp.float32)) + jax.random.gumbel(key, sizes.shape, jnp.float32)
    return jnp.sort(jax.lax.top_k(scores, number)[1])
