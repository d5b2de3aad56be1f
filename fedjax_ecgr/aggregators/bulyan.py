r"""Bulyan of Krum (El Mhamdi, Guerraoui, Rouault, ICML 2018, arXiv 1802.07927).

For $n \ge 4f + 3$ updates. First $\theta = n - 2f$ of them are chosen, one after another: the one
that Krum takes among those not chosen yet. Then, of the chosen ones, in each coordinate the
$\beta = \theta - 2f$ values nearest to their median are averaged:

$$u_k = \frac{1}{\beta} \sum_{i \in M_k} (u_i)_k, \qquad
M_k = \arg\min_{M \subset S, |M| = \beta} \sum_{i \in M} |(u_i)_k - \operatorname{med}_k|.$$

The last choices are made among so few updates, $r < 2f + 3$, that Krum's $r - f - 2$ nearest ones
may be one or none. At least two count: with one, the nearest pair would always tie. All clients
count the same.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr.aggregators.base import Aggregator, Received
from fedjax_ecgr.aggregators.blocks import each_column
from fedjax_ecgr.aggregators.distances import squared_distances, typical_size
from fedjax_ecgr.aggregators.krum import scores
from fedjax_ecgr.aggregators.matrix import Rows, by_rows
from fedjax_ecgr.aggregators.median import middle
from fedjax_ecgr.aggregators.sorting import sort_present
from fedjax_ecgr.aggregators.tolerance import Need, check_whole, checker, tolerated
from fedjax_ecgr.aggregators.trimmed_mean import mean_of_ranks
from fedjax_ecgr.types import Array

_NEED = Need(4, 3)


def bulyan(*, num_malicious: float | Array = 1) -> Aggregator:
    """Returns the rule that averages what is nearest to the median of those that Krum chooses.

    Args:
      num_malicious: f, how many clients of a cohort are taken for malicious, with n ≥ 4 f + 3.
        Where fewer clients are present it counts as the largest number that those carry.

    Raises:
      InputError: if it is not a whole number, or negative.

    Example:
      >>> bulyan(num_malicious=2).check(11)
    """
    check_whole("num_malicious", num_malicious)
    return Aggregator(
        "bulyan",
        {"num_malicious": num_malicious},
        lambda params: (),
        by_rows(_bulyan),
        checker("bulyan", num_malicious, _NEED),
    )


def _bulyan(rows: Rows, received: Received) -> Array:
    n = rows.num_present
    f = tolerated(received.hyperparameters["num_malicious"], n, _NEED)
    theta = n - 2 * f
    distances = squared_distances(rows, typical_size(rows))
    left = _without_chosen(distances, rows.present, f, theta)
    chosen = rows.present & ~left

    def of_block(block: Array) -> Array:
        return _nearest_median(sort_present(block, chosen), theta, theta - 2 * f)

    return jnp.where(n > 0, each_column(of_block, rows.values), 0)


def _without_chosen(distances: Array, present: Array, f: Array, theta: Array) -> Array:
    """Returns [c] bool, who is left when θ have been chosen."""

    def choose(step: Array, left: Array) -> Array:
        neighbours = jnp.maximum(left.sum(dtype=jnp.int32) - f - 2, 2)
        best = jnp.argmin(scores(distances, left, neighbours))
        return left.at[best].set(left[best] & (step >= theta))

    return jax.lax.fori_loop(0, present.size, choose, present)


def _nearest_median(ordered: Array, n: Array, count: Array) -> Array:
    """Returns the mean of the `count` values nearest to the median of the first n rows.

    They are neighbours in rank: as long as the next value above is nearer to the median than the
    lowest one, the lowest is left for it.
    """
    median = middle(ordered, jnp.maximum(n, 1))[None]
    rank = jnp.arange(ordered.shape[0], dtype=jnp.int32)
    next_above = ordered[jnp.minimum(rank + count, rank.size - 1)]
    left = (median - ordered > next_above - median) & (rank < n - count)[:, None]
    start = left.sum(axis=0, dtype=jnp.int32)
    return mean_of_ranks(ordered, start, start + count)
