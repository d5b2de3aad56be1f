"""What attacks have in common in which all malicious clients send the same.

They know what every honest client of the cohort sends, and go by nothing else: not by what
malicious clients trained, and not by who sent nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_ecgr.aggregators.distances import power_of_two, squared_distances
from fedjax_ecgr.aggregators.matrix import Rows, as_rows, as_update, average
from fedjax_ecgr.attacks.base import Attacking
from fedjax_ecgr.types import Array, PyTree


def colluding(
    rule: Callable[[Rows, Attacking], Array],
) -> Callable[[PyTree, Attacking], PyTree]:
    """Returns `Attack.together` of a rule.

    Args:
      rule: `(rows, attacking) -> [P]`: from the honest clients' updates, who alone are present
        among the rows, to what all malicious clients send.

    Returns:
      `(updates, attacking) -> updates`. In a round without honest clients nothing changes, nor
      where clients send none.
    """

    def together(updates: PyTree, attacking: Attacking) -> PyTree:
        if not jax.tree.leaves(updates):
            return updates
        rows = as_rows(updates, attacking.present & ~attacking.malicious)
        sent = as_update(rule(rows, attacking), updates)
        return in_place_of(updates, attacking.malicious & rows.present.any(), sent)

    return together


def in_place_of(updates: PyTree, replaced: Array, sent: PyTree) -> PyTree:
    """Returns the updates with one and the same in place of some.

    Args:
      updates: [c, ...] leaves.
      replaced: [c] bool, which.
      sent: an update, like one of them.
    """

    def write(u: Array, own: Array) -> Array:
        return jnp.where(replaced.reshape(-1, *(1,) * own.ndim), own[None], u)

    return jax.tree.map(write, updates, sent)


def mean_of(rows: Rows) -> Array:
    """Returns the mean of the rows present, [P]."""
    dtype = rows.values.dtype
    count = jnp.maximum(rows.num_present, 1).astype(dtype)
    return average(rows.values, rows.present.astype(dtype) / count)


def std_of(rows: Rows, mean: Array) -> Array:
    """Returns the standard deviation of each coordinate over the rows present, [P].

    It is the square root of the mean of squares: divided by the number of rows, not by one less.
    """
    dtype = rows.values.dtype
    count = jnp.maximum(rows.num_present, 1).astype(dtype)
    away = jnp.where(rows.present[:, None], rows.values - mean[None], 0)
    unit = power_of_two(jnp.max(jnp.abs(away)))
    return unit * jnp.sqrt(jnp.sum(jnp.square(away / unit), axis=0) / count)


def farthest_apart(rows: Rows) -> Array:
    """Returns the largest squared distance between two of the rows present; 0 if there are none."""
    distances = squared_distances(rows, jnp.ones_like(rows.values[0, 0]))
    both = rows.present[:, None] & rows.present[None]
    return jnp.max(jnp.where(both, distances, 0))
