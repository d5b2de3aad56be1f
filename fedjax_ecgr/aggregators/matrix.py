"""A cohort's updates as one matrix, a client a row: what rules for which only coordinates or
distances count work on.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.aggregators.base import Received
from fedjax_ecgr.aggregators.blocks import columns_at_once
from fedjax_ecgr.types import Array, PyTree

Rule = Callable[["Rows", Received], Array]
"""From a cohort's rows to one of them, [P]."""


class Rows(NamedTuple):
    """The updates of those that sent something.

    Attributes:
      values: [c, P], zero rows for who is not present; float32 at least. P is that of the updates
        rounded up to whole blocks, by columns of zeros.
      present: [c] bool, who sent something, all of it finite.
      sizes: [c], the largest absolute value of each row.
    """

    values: Array
    present: Array
    sizes: Array

    @property
    def num_present(self) -> Array:
        """n, how many are present, int32."""
        return self.present.sum(dtype=jnp.int32)


def as_rows(updates: PyTree, present: Array) -> Rows:
    """Returns the updates as a matrix.

    A row with a NaN or Inf counts as not sent: no rule could make anything of it.

    Args:
      updates: [c, ...] leaves.
      present: [c] bool, who sent something.

    Example:
      >>> as_rows({"w": jnp.ones((2, 3, 2))}, jnp.array([True, False])).values.sum(axis=1)
      Array([6., 0.], dtype=float32)
    """
    leaves = jax.tree.leaves(updates)
    dtype = jnp.result_type(*leaves)
    dtype = dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)
    parts = [x.reshape(x.shape[0], -1).astype(dtype) for x in leaves]
    total, block = sum(x.shape[1] for x in parts), columns_at_once()
    if total > block:
        parts.append(jnp.zeros((parts[0].shape[0], -total % block), dtype))
    values = jnp.concatenate(parts, axis=1)
    sizes = jnp.max(jnp.abs(values), axis=1)
    present = present & jnp.isfinite(sizes)
    return Rows(jnp.where(present[:, None], values, 0), present, jnp.where(present, sizes, 0))


def as_row(update: PyTree, rows: Rows) -> Array:
    """Returns an update as [P], a row like the others."""
    row = jnp.concatenate(
        [x.reshape(-1).astype(rows.values.dtype) for x in jax.tree.leaves(update)]
    )
    return jnp.pad(row, (0, rows.values.shape[1] - row.size))


def as_update(row: Array, updates: PyTree) -> PyTree:
    """Returns [P] as an update like those of a cohort, [c, ...] leaves."""
    leaves, treedef = jax.tree.flatten(updates)
    ends = [0]
    for leaf in leaves:
        ends.append(ends[-1] + math.prod(leaf.shape[1:]))
    return jax.tree.unflatten(
        treedef,
        (
            row[start:end].reshape(leaf.shape[1:]).astype(leaf.dtype)
            for leaf, start, end in zip(leaves, ends, ends[1:], strict=False)
        ),
    )


def by_rows(rule: Rule) -> Callable[[PyTree, PyTree, Received], tuple[PyTree, PyTree]]:
    """Returns `Aggregator.aggregate` of a rule over rows that keeps no state."""

    def aggregate(updates: PyTree, state: PyTree, received: Received) -> tuple[PyTree, PyTree]:
        return as_update(rule(as_rows(updates, received.present), received), updates), state

    return aggregate


def average(values: Array, weights: Array) -> Array:
    """Returns Σ_i weights_i · values_i, [P], in full precision on every backend."""
    return jnp.matmul(weights, values, precision=jax.lax.Precision.HIGHEST)
