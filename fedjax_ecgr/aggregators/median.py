r"""Coordinate-wise median (Yin, Chen, Ramchandran, Bartlett, arXiv 1803.01498, definition 1).

$$u_k = \operatorname{med}\{(u_i)_k : i \text{ present}\}$$

for each coordinate $k$; of an even number, the mean of the two in the middle. All clients count
the same, whatever their numbers of examples. With fewer than half of the clients malicious, every
coordinate stays between the smallest and the largest honest one.
"""

import jax.numpy as jnp

from fedjax_ecgr.aggregators.base import Aggregator, Received
from fedjax_ecgr.aggregators.blocks import each_column
from fedjax_ecgr.aggregators.matrix import Rows, by_rows
from fedjax_ecgr.aggregators.sorting import sort_present
from fedjax_ecgr.types import Array


def median() -> Aggregator:
    """Returns the median of every coordinate.

    Example:
      >>> median().name
      'median'
    """
    return Aggregator("median", {}, lambda params: (), by_rows(_median))


def _median(rows: Rows, received: Received) -> Array:
    del received
    n = jnp.maximum(rows.num_present, 1)

    def of_block(block: Array) -> Array:
        return middle(sort_present(block, rows.present), n)

    return jnp.where(rows.present.any(), each_column(of_block, rows.values), 0)


def middle(ordered: Array, n: Array) -> Array:
    """Returns the median of the first n ≥ 1 rows, which are in rising order."""
    return 0.5 * ordered[(n - 1) // 2] + 0.5 * ordered[n // 2]
