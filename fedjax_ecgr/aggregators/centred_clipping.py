r"""Centred clipping (Karimireddy, He, Jaggi, ICML 2021, arXiv 2012.10333).

From the centre $v$ that the last round left (zero at first), L times

$$v \leftarrow v + \frac1n \sum_i (u_i - v) \min\Big(1, \frac{\tau}{\|u_i - v\|}\Big);$$

the result is the update and the next centre. A client moves it by no more than $L\tau/n$ a round,
whatever it sends. So does an honest one: $\tau$ has to be of the size of what honest updates differ
by. If they are all $u$, and a share $a$ of clients pulls the other way, the centre settles
$\tau a/(1-a)$ short of $u$; a radius that is large beside the updates themselves lets few clients
turn them round. All clients count the same. With nobody present the update is zero and the centre
stays.
"""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.base import Aggregator, Received
from fedjax_ecgr.aggregators.distances import distances_to
from fedjax_ecgr.aggregators.matrix import Rows, as_row, as_rows, as_update, average
from fedjax_ecgr.types import Array, PyTree


def centred_clipping(*, radius: float | Array = 0.1, iterations: int = 1) -> Aggregator:
    """Returns the mean of the updates, each clipped to a ball around the last round's result.

    Args:
      radius: τ > 0, a length like the norm of an update: about what honest updates differ by.
      iterations: L, steps of the algorithm.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> centred_clipping(radius=0.5).hyperparameters
      {'radius': 0.5}
    """
    check.number("radius", radius, low=0, low_open=True)
    check.count("iterations", iterations)
    return Aggregator(
        "centred_clipping",
        {"radius": radius},
        partial(jax.tree.map, jnp.zeros_like),
        partial(_aggregate, iterations),
    )


def _aggregate(
    iterations: int, updates: PyTree, state: PyTree, received: Received
) -> tuple[PyTree, PyTree]:
    rows = as_rows(updates, received.present)
    radius = received.hyperparameters["radius"].astype(rows.values.dtype)
    row = jax.lax.fori_loop(
        0, iterations, lambda _, centre: _step(centre, rows, radius), as_row(state, rows)
    )
    centre = as_update(row, updates)
    anybody = rows.present.any()
    return jax.tree.map(lambda v: jnp.where(anybody, v, 0), centre), centre


def _step(centre: Array, rows: Rows, radius: Array) -> Array:
    distances = distances_to(centre, rows)
    kept = jnp.where(distances > radius, radius / jnp.where(distances > 0, distances, 1), 1)
    n = jnp.maximum(rows.num_present, 1).astype(kept.dtype)
    kept = jnp.where(rows.present, kept, 0) / n
    # v + Σ kept (u − v), without u − v, which may overflow
    return (1 - kept.sum()) * centre + average(rows.values, kept)
