r"""Krum (Blanchard, El Mhamdi, Guerraoui, Stainer, NeurIPS 2017, arXiv 1703.02757).

Of $n \ge 2f + 3$ updates, $f$ of them malicious, the one that is nearest to its $n - f - 2$
nearest others:

$$s(i) = \sum_{i \to j} \|u_i - u_j\|^2, \qquad u = u_{i^*}, \quad i^* = \arg\min_i s(i),$$

where $i \to j$ are the $n - f - 2$ updates nearest to $u_i$, itself apart. The first one wins a
tie. All clients count the same.
"""

import jax.numpy as jnp

from fedjax_ecgr.aggregators.base import Aggregator, Received
from fedjax_ecgr.aggregators.distances import nearest_first, squared_distances, typical_size
from fedjax_ecgr.aggregators.matrix import Rows, by_rows
from fedjax_ecgr.aggregators.tolerance import Need, check_whole, checker, tolerated
from fedjax_ecgr.types import Array

NEED = Need(2, 3)


def krum(*, num_malicious: float | Array = 1) -> Aggregator:
    """Returns the rule that takes the one update that is nearest to most others.

    Args:
      num_malicious: f, how many clients of a cohort are taken for malicious, with n ≥ 2 f + 3.
        Where fewer clients are present it counts as the largest number that those carry.

    Raises:
      InputError: if it is not a whole number, or negative.

    Example:
      >>> krum(num_malicious=2).check(7)
    """
    check_whole("num_malicious", num_malicious)
    return Aggregator(
        "krum",
        {"num_malicious": num_malicious},
        lambda params: (),
        by_rows(_krum),
        checker("krum", num_malicious, NEED),
    )


def _krum(rows: Rows, received: Received) -> Array:
    f = tolerated(received.hyperparameters["num_malicious"], rows.num_present, NEED)
    distances = squared_distances(rows, typical_size(rows))
    return rows.values[jnp.argmin(scores(distances, rows.present, rows.num_present - f - 2))]


def scores(distances: Array, among: Array, neighbours: Array) -> Array:
    """Returns s(i) among some of the updates, [c]; Inf for the others, finite for these.

    Args:
      distances: [c, c], squared.
      among: [c] bool, the updates that there are.
      neighbours: how many of the nearest others count; at least one does, if there is one.
    """
    n = among.sum(dtype=jnp.int32)
    neighbours = jnp.clip(neighbours, jnp.minimum(1, n - 1), n - 1)
    ordered = nearest_first(distances, among)
    near = jnp.arange(among.size, dtype=jnp.int32)[:, None] < neighbours
    sums = jnp.sum(jnp.where(near, ordered, 0), axis=0)
    return jnp.where(among, jnp.minimum(sums, jnp.finfo(sums.dtype).max), jnp.inf)
