"""Step deltas as they are kept: rows of a matrix D, and the products that ECGR takes of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.types import Array, PyTree

# The bits of a bfloat16. XLA has no loops over that type itself on a CPU: it widens all rows.
BITS = jnp.dtype(jnp.uint16)
# Columns of the rows that a matrix product takes at once. On a CPU it copies what it is given: one
# product of all was twice as slow, and took as much memory again as the rows.
COLUMNS = 2**14


class Rows(NamedTuple):
    """Steps so far: of d_λ / units[λ], `rows[λ]` keeps something; zero from `num_steps` on."""

    rows: PyTree
    units: Array
    num_steps: Array

    @property
    def mask(self) -> Array:
        """[τ] bool, which rows there are."""
        return jnp.arange(self.units.shape[0], dtype=jnp.int32) < self.num_steps


def empty(rows: PyTree, params: PyTree, max_steps: int) -> Rows:
    """Returns the rows before the first step; `rows` is [max_steps, ...] zeros."""
    dtype = jnp.result_type(*jax.tree.leaves(params))
    return Rows(rows, jnp.zeros(max_steps, dtype), jnp.zeros((), jnp.int32))


def store(state: Rows, row: PyTree, unit: Array, active: Array | bool) -> Rows:
    """Returns the rows with one more."""
    # A masked step writes a row of zeros that the next step overwrites.
    at = state.num_steps
    return state._replace(
        rows=jax.tree.map(lambda rows, x: rows.at[at].set(_narrow(x, rows)), state.rows, row),
        units=state.units.at[at].set(unit),
        num_steps=at + jnp.asarray(active, jnp.int32),
    )


def _narrow(row: Array, rows: Array) -> Array:
    """Returns a row as it is stored among `rows`."""
    if rows.dtype != BITS:
        return row
    return jax.lax.bitcast_convert_type(row.astype(jnp.bfloat16), BITS)


def _widen(rows: Array, dtype: Any) -> Array:
    """Returns what is stored as numbers of `dtype`, which it has unless it is in bfloat16."""
    if rows.dtype != BITS:
        return rows
    return jax.lax.bitcast_convert_type(rows, jnp.bfloat16).astype(dtype)


def in_units(delta: PyTree, active: Array | bool) -> tuple[PyTree, Array]:
    """Returns `delta` (or zeros) over a power of two near its largest entry, and that power.

    Squares then neither overflow nor vanish, however large or small the deltas are, and nothing is
    rounded.
    """
    leaves = [jnp.where(active, d, jnp.zeros_like(d)) for d in jax.tree.leaves(delta)]
    largest = jnp.stack([jnp.max(jnp.abs(d), initial=0) for d in leaves]).max()
    limits = jnp.finfo(largest.dtype)
    exponent = jnp.clip(jnp.frexp(largest)[1], limits.minexp, limits.maxexp - 2)
    unit = jnp.where(largest > 0, jnp.ldexp(jnp.ones_like(largest), exponent), 1)
    return jax.tree.unflatten(jax.tree.structure(delta), [d / unit for d in leaves]), unit


def gram(rows: PyTree, dtype: Any) -> Array:
    """D Dᵀ, [τ, τ], accumulated in `dtype` (on a GPU: no TF32)."""
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    return jnp.stack([_products(leaf, dtype) for leaf in flat]).sum(axis=0)


def _products(flat: Array, dtype: Any) -> Array:
    """A Aᵀ of one leaf, some columns at a time: the product copies (or widens) what it is given."""

    def of_some(first: Array | int, width: int) -> Array:
        columns = _widen(jax.lax.dynamic_slice_in_dim(flat, first, width, axis=1), dtype)
        return jnp.matmul(columns, columns.T, precision=jax.lax.Precision.HIGHEST)

    whole, rest = divmod(flat.shape[1], COLUMNS)
    gram = of_some(whole * COLUMNS, rest)
    if not whole:
        return gram
    return jax.lax.fori_loop(0, whole, lambda i, g: g + of_some(i * COLUMNS, COLUMNS), gram)


def combine(coefficients: Array, rows: PyTree) -> PyTree:
    """Sums over the step axis: [n, τ] coefficients, [τ, ...] rows to [n, ...]."""
    number, steps = coefficients.shape

    def of_leaf(d: Array) -> Array:
        def add(i: Array, total: Array) -> Array:
            return total + jnp.multiply.outer(coefficients[:, i], _widen(d[i], total.dtype))

        if d.dtype != BITS:
            return jnp.tensordot(coefficients, d, axes=1, precision=jax.lax.Precision.HIGHEST)
        zero = jnp.zeros((number, *d.shape[1:]), coefficients.dtype)
        return jax.lax.fori_loop(0, steps, add, zero)

    return jax.tree.map(of_leaf, rows)
