"""Distances between updates, free of cancellation and overflow.

‖a‖² + ‖b‖² − 2⟨a, b⟩, one matrix product for all pairs, loses what two updates differ by where a
third is large, and gives Inf − Inf where that one is very large; differences do neither. What is
squared is first divided by a power of two, which changes no digit, so that squares stay in range.
"""

import jax.numpy as jnp

from fedjax_ecgr.aggregators.blocks import sum_of_blocks
from fedjax_ecgr.aggregators.matrix import Rows
from fedjax_ecgr.aggregators.sorting import sort_present
from fedjax_ecgr.types import Array


def squared_distances(rows: Rows, unit: Array) -> Array:
    """Returns ‖(u_i − u_j) / unit‖² of all pairs, [c, c]; Inf where it is out of range.

    Args:
      rows: the updates.
      unit: a power of two.

    Example:
      >>> from fedjax_ecgr.aggregators.matrix import as_rows
      >>> rows = as_rows(jnp.array([[0.0], [1.5]]), jnp.ones(2, bool))
      >>> squared_distances(rows, jnp.array(1.0))
      Array([[0.  , 2.25],
             [2.25, 0.  ]], dtype=float32)
    """
    shrink = 1 / unit

    def of_block(block: Array) -> Array:
        return jnp.sum(jnp.square((block[:, None] - block[None]) * shrink), axis=-1)

    return sum_of_blocks(of_block, rows.values)


def nearest_first(distances: Array, among: Array) -> Array:
    """Returns in column i the distances of update i to the others, rising, then Inf: [c, c].

    Args:
      distances: [c, c].
      among: [c] bool, the updates that there are.
    """
    return sort_present(distances, among[:, None] & ~jnp.eye(among.size, dtype=bool))


def distances_to(centre: Array, rows: Rows) -> Array:
    """Returns ‖u_i − centre‖₂, [c], finite.

    Args:
      centre: [P].
      rows: the updates.
    """
    unit = power_of_two(rows.sizes + jnp.max(jnp.abs(centre)))
    shrink = (1 / unit)[:, None]
    squares = jnp.sum(jnp.square(rows.values * shrink - centre[None] * shrink), axis=1)
    return jnp.minimum(unit * jnp.sqrt(squares), jnp.finfo(unit.dtype).max)


def power_of_two(size: Array) -> Array:
    """Returns the power of two above |size|, such that it and its reciprocal are normal numbers."""
    limits = jnp.finfo(size.dtype)
    exponent = jnp.frexp(jnp.where(size == 0, 1, size))[1]
    exponent = jnp.clip(exponent, limits.minexp + 1, limits.maxexp - 2)
    return jnp.ldexp(jnp.ones_like(size), exponent)


def typical_size(rows: Rows) -> Array:
    """Returns a power of two near the median size, which no minority of the rows moves far."""
    ordered = sort_present(rows.sizes, rows.present)
    return power_of_two(jnp.where(rows.present.any(), ordered[rows.num_present // 2], 1))
