"""Step deltas as they are kept: rows of a matrix D, and the products that ECGR takes of them.

Each leaf of the parameters has rows of its own, so that a step's delta goes straight to its place.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.types import Array, PyTree

# The bits of a bfloat16. XLA has no loops over that type itself on a CPU: it widens all rows.
BITS = jnp.dtype(jnp.uint16)
# Columns of the rows that a matrix product takes at once. It copies what it is given: one product
# of all is no quicker, and takes as much memory again as the rows.
COLUMNS = 2**14
# So few rows are multiplied with each of them in turn: on a CPU a product of matrices pads them,
# and takes as long for five as for eight.
FEW = 5


class Rows(NamedTuple):
    """Steps so far: `rows[λ]` keeps something of d_λ; zero from `num_steps` on."""

    rows: PyTree
    num_steps: Array

    @property
    def mask(self) -> Array:
        """[τ] bool, which rows there are."""
        steps = jax.tree.leaves(self.rows)[0].shape[0]
        return jnp.arange(steps, dtype=jnp.int32) < self.num_steps


def empty(rows: PyTree) -> Rows:
    """Returns the rows before the first step; `rows` is [max_steps, ...] zeros."""
    return Rows(rows, jnp.zeros((), jnp.int32))


def store(state: Rows, row: PyTree, active: Array | bool) -> Rows:
    """Returns the rows with one more; a step that is not active leaves them as they are."""
    at = state.num_steps

    def put(rows: Array, x: Array) -> Array:
        x = _narrow(x, rows)
        if active is not True:  # behind the last row this is the last row itself
            x = jnp.where(active, x, jax.lax.dynamic_index_in_dim(rows, at, keepdims=False))
        return jax.lax.dynamic_update_index_in_dim(rows, x, at, 0)

    return Rows(jax.tree.map(put, state.rows, row), at + jnp.asarray(active, jnp.int32))


def _narrow(row: Array, rows: Array) -> Array:
    """Returns a row as it is stored among `rows`."""
    if rows.dtype != BITS:
        return row
    most = jnp.finfo(jnp.bfloat16).max.astype(row.dtype)
    finite = jnp.where(jnp.isfinite(row), jnp.clip(row, -most, most), row)
    return jax.lax.bitcast_convert_type(finite.astype(jnp.bfloat16), BITS)


def _widen(rows: Array, dtype: Any) -> Array:
    """Returns what is stored as numbers of `dtype`."""
    if rows.dtype == BITS:
        rows = jax.lax.bitcast_convert_type(rows, jnp.bfloat16)
    return rows.astype(dtype)


def unit_of(largest: Array) -> Array:
    """Returns a power of two near the largest entry of a row; 1 for a row of zeros.

    Squares of what is divided by it neither overflow nor vanish, however large or small it was, and
    nothing is rounded. It stays away from the ends of the type's range: 1 / unit can be scaled.
    """
    most = jnp.finfo(largest.dtype).maxexp * 3 // 4
    exponent = jnp.clip(jnp.frexp(largest)[1], -most, most)
    return jnp.where(largest > 0, jnp.ldexp(jnp.ones_like(largest), exponent), 1)


def in_range(rows: PyTree, mask: Array, dtype: Any) -> tuple[Array, Array]:
    """Returns D Dᵀ of the first rows, those of the mask, over their units, and the units.

    Where no square comes near the ends of the type's range, which is nearly always, all units are 1
    and nothing but the rows' products is computed.
    """
    products = gram(rows, dtype, len(mask))
    limits, squares = jnp.finfo(dtype), jnp.diagonal(products)
    size = sum(flat.shape[1] for flat in _flat(rows))
    # so that what vanishes of a square, size · tiny, is rounding even where steps cancel
    least = size * float(limits.tiny) / float(limits.eps) ** 2
    most = float(limits.max) / (4 * len(mask) ** 2)
    extreme = ~jnp.all((least <= squares) & (squares <= most) | ~mask)

    def over_units() -> tuple[Array, Array]:
        own = _units(rows, dtype)[: len(mask)]
        return gram(rows, dtype, len(mask), own), own

    return jax.lax.cond(
        largest_of_all(extreme), over_units, lambda: (products, jnp.ones_like(squares))
    )


@jax.custom_batching.custom_vmap
def largest_of_all(x: Array) -> Array:
    """Returns x; under `vmap` the largest of the batch, so that what it chooses is no select."""
    return x


@largest_of_all.def_vmap
def _largest_of_batch(size: int, batched: list[bool], x: Array) -> tuple[Array, bool]:
    del size, batched
    return largest_of_all(x.max()), False


def _units(rows: PyTree, dtype: Any) -> Array:
    def largest(flat: Array) -> Array:
        if flat.dtype == dtype:
            return jnp.max(jnp.abs(flat), axis=1, initial=0)
        # one row at a time, as only that is widened then
        return jax.lax.map(lambda row: jnp.max(jnp.abs(_widen(row, dtype)), initial=0), flat)

    return unit_of(jnp.stack([largest(flat) for flat in _flat(rows)]).max(axis=0))


def gram(rows: PyTree, dtype: Any, steps: int, units: Array | None = None) -> Array:
    """D Dᵀ of the first rows over units, accumulated in `dtype` (on a GPU: no TF32).

    Args:
      rows: the rows.
      dtype: of the result.
      steps: how many rows count.
      units: [steps], by default ones.

    Returns:
      [steps, steps].
    """

    def product(columns: Array) -> Array:
        columns = _widen(columns, dtype)
        columns = columns if units is None else columns / units[:, None]
        return jnp.matmul(columns, columns.T, precision=jax.lax.Precision.HIGHEST)

    def add(flat: Array, total: Array, first: Array | int, width: int) -> Array:
        return total + product(jax.lax.dynamic_slice(flat, (0, first), (steps, width)))

    total = jnp.zeros((steps, steps), dtype)
    for flat in _flat(rows):
        if steps <= FEW and units is None and flat.dtype == dtype:
            total = total + _of_few(flat[:steps])
        else:
            total = _by_columns(partial(add, flat), flat.shape[1], total)
    return total


def _of_few(flat: Array) -> Array:
    """D Dᵀ, row by row."""
    return jnp.stack([jnp.matmul(flat, row, precision=jax.lax.Precision.HIGHEST) for row in flat])


def combine(coefficients: Array, rows: PyTree) -> PyTree:
    """Sums over the step axis: [n, τ] coefficients, [τ, ...] rows to [n, ...]."""
    dtype = coefficients.dtype

    def product(columns: Array) -> Array:
        columns = _widen(columns, dtype)
        return jnp.matmul(coefficients, columns, precision=jax.lax.Precision.HIGHEST)

    def put(flat: Array, sums: Array, first: Array | int, width: int) -> Array:
        part = product(jax.lax.dynamic_slice_in_dim(flat, first, width, axis=1))
        return jax.lax.dynamic_update_slice_in_dim(sums, part, first, 1)

    def of_leaf(leaf: Array) -> Array:
        (flat,) = _flat(leaf)
        if leaf.dtype == dtype:
            sums = product(flat)
        else:  # some columns at a time, as only those are widened then
            zeros = jnp.zeros((len(coefficients), flat.shape[1]), dtype)
            sums = _by_columns(partial(put, flat), flat.shape[1], zeros)
        return sums.reshape(len(coefficients), *leaf.shape[1:])

    return jax.tree.map(of_leaf, rows)


def _by_columns(
    step: Callable[[Array, Array | int, int], Array], width: int, first: Array
) -> Array:
    """Folds `step(total, first column, columns) -> total` over some columns at a time."""
    whole, rest = divmod(width, COLUMNS)
    total = step(first, whole * COLUMNS, rest)
    if not whole:
        return total
    return jax.lax.fori_loop(0, whole, lambda i, total: step(total, i * COLUMNS, COLUMNS), total)


def _flat(rows: PyTree) -> list[Array]:
    return [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
