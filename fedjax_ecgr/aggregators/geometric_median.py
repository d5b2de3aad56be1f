r"""Geometric median, RFA (Pillutla, Kakade, Harchaoui, arXiv 1912.13445).

The point nearest to all updates, $\arg\min_v \sum_i p_i \|v - u_i\|$, by the smoothed Weiszfeld
algorithm: from $v = 0$, the model that the cohort started from, R times

$$\beta_i = \frac{p_i}{\max(\nu, \|v - u_i\|)}, \qquad v \leftarrow \frac{\sum_i \beta_i u_i}
{\sum_i \beta_i}.$$

Clients count with their weights $p_i$ as in the paper; the result is sound while malicious ones
hold less than half of all weight. From $v = 0$, unlike from the mean, an update is weighed down
from the first step on, however large it is.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.base import Aggregator, Received
from fedjax_ecgr.aggregators.distances import distances_to
from fedjax_ecgr.aggregators.matrix import Rows, average, by_rows
from fedjax_ecgr.types import Array


def geometric_median(*, smoothing: float | Array = 1e-6, iterations: int = 8) -> Aggregator:
    """Returns the point with the smallest weighted sum of distances to the updates.

    Args:
      smoothing: ν > 0, the distance below which an update's weight grows no further.
      iterations: R, steps of the algorithm; each reads all updates twice.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> geometric_median(iterations=3).hyperparameters
      {'smoothing': 1e-06}
    """
    check.number("smoothing", smoothing, low=0, low_open=True)
    check.count("iterations", iterations)

    def rule(rows: Rows, received: Received) -> Array:
        smoothing = received.hyperparameters["smoothing"].astype(rows.values.dtype)
        weights = jnp.where(rows.present, received.weights.astype(rows.values.dtype), 0)
        return jax.lax.fori_loop(
            0,
            iterations,
            lambda _, point: _step(point, rows, weights, smoothing),
            jnp.zeros_like(rows.values[0]),
        )

    numbers = {"smoothing": smoothing}
    return Aggregator("geometric_median", numbers, lambda params: (), by_rows(rule))


def _step(point: Array, rows: Rows, weights: Array, smoothing: Array) -> Array:
    distances = jnp.maximum(distances_to(point, rows), smoothing)
    # times the smallest distance: only ratios matter, and these lie in (0, 1]
    smallest = jnp.min(jnp.where(weights > 0, distances, jnp.finfo(distances.dtype).max))
    pull = weights * (smallest / jnp.where(weights > 0, distances, smallest))
    total = pull.sum()
    return average(rows.values, pull / jnp.where(total > 0, total, 1))
