r"""Coordinate-wise trimmed mean (Yin, Chen, Ramchandran, Bartlett, arXiv 1803.01498, definition 2).

In each coordinate $k$ the $f$ smallest and the $f$ largest of $n$ values are dropped and the
others averaged. With $x_{(1)} \le \dots \le x_{(n)}$ the values of a coordinate in rising order

$$u_k = \frac{1}{n - 2f} \sum_{j=f+1}^{n-f} x_{(j)}, \qquad 2f < n.$$

The paper's share $\beta$ is $f/n$. All clients count the same. With at most $f$ of them malicious,
every coordinate stays between the smallest and the largest honest one.
"""

import jax.numpy as jnp

from fedjax_ecgr.aggregators.base import Aggregator, Received
from fedjax_ecgr.aggregators.blocks import each_column
from fedjax_ecgr.aggregators.matrix import Rows, by_rows
from fedjax_ecgr.aggregators.sorting import sort_present
from fedjax_ecgr.aggregators.tolerance import Need, check_whole, checker, tolerated
from fedjax_ecgr.types import Array

_NEED = Need(2, 1)


def trimmed_mean(*, num_malicious: float | Array = 1) -> Aggregator:
    """Returns the mean of every coordinate without its largest and smallest values.

    Args:
      num_malicious: f, how many values are dropped at either end of each coordinate, with 2 f < n.
        Where fewer clients are present it counts as the largest number that leaves a value: the
        rule then is the median.

    Raises:
      InputError: if it is not a whole number, or negative.

    Example:
      >>> trimmed_mean(num_malicious=2).check(5)
    """
    check_whole("num_malicious", num_malicious)
    return Aggregator(
        "trimmed_mean",
        {"num_malicious": num_malicious},
        lambda params: (),
        by_rows(_trimmed_mean),
        checker("trimmed_mean", num_malicious, _NEED),
    )


def _trimmed_mean(rows: Rows, received: Received) -> Array:
    n = rows.num_present
    f = tolerated(received.hyperparameters["num_malicious"], n, _NEED)
    return each_column(
        lambda block: mean_of_ranks(sort_present(block, rows.present), f, n - f), rows.values
    )


def mean_of_ranks(ordered: Array, start: Array, stop: Array) -> Array:
    """Returns the mean of rows start … stop − 1 of those in rising order; 0 where there are none.

    Args:
      ordered: [c, columns].
      start: the first rank that counts, one for all columns or one for each.
      stop: the first rank behind that does not.
    """
    rank = jnp.arange(ordered.shape[0], dtype=jnp.int32)[:, None]
    start, stop = jnp.atleast_1d(start)[None], jnp.atleast_1d(stop)[None]
    count = jnp.maximum(stop - start, 1).astype(ordered.dtype)
    kept = (rank >= start) & (rank < stop)
    return jnp.sum(jnp.where(kept, ordered, 0) / count, axis=0)
