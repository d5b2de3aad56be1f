r"""Min-max, agnostic of the rule (Shejwalkar, Houmansadr, NDSS 2021).

All malicious clients send the honest clients' mean $\mu$, moved as far as possible in a direction
$p$ while it is no further from any honest update than two of these are from each other:

$$u = \mu + \gamma p, \qquad
\gamma = \max\{\gamma : \max_{i \in H} \|\mu + \gamma p - u_i\| \le
\max_{i, j \in H} \|u_i - u_j\|\}.$$

The directions are $-\mu/\|\mu\|$ ("unit"), $-\operatorname{sign}\mu$ ("sign") and $-\sigma$
("std"). The paper looks for $\gamma$ by halving steps. But with $D$ the largest distance and
$e_i = \mu - u_i$ every condition is a parabola in $\gamma$,

$$\gamma^2 \|p\|^2 + 2\gamma\langle p, e_i\rangle + \|e_i\|^2 \le D^2,$$

and holds at $\gamma = 0$, as $\mu$ lies between the updates. So $\gamma$ is the smallest of their
upper roots, exactly and without a search.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.distances import power_of_two
from fedjax_ecgr.aggregators.matrix import Rows
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.attacks.colluding import colluding, farthest_apart, mean_of, std_of
from fedjax_ecgr.types import Array


def _unit(rows: Rows, mean: Array) -> Array:
    """the mean itself"""
    del rows
    length = jnp.sqrt(jnp.sum(jnp.square(mean)))
    return -mean / jnp.where(length > 0, length, 1)


def _sign(rows: Rows, mean: Array) -> Array:
    """the signs of the mean"""
    del rows
    return -jnp.sign(mean)


DIRECTIONS = {"unit": _unit, "sign": _sign, "std": lambda rows, mean: -std_of(rows, mean)}


def min_max(*, direction: str = "std") -> Attack:
    """Returns the attack that goes as far as honest clients are from each other.

    Args:
      direction: against what the mean is moved: `unit` (the mean itself), `sign` (its signs) or
        `std` (the standard deviations of the coordinates).

    Raises:
      InputError: for an unknown direction.

    Example:
      >>> min_max(direction="sign").name
      'min_max'
    """
    away = check.known("direction", direction, DIRECTIONS)
    return Attack("min_max", {}, together=colluding(partial(_min_max, away)))


def _min_max(away: Callable[[Rows, Array], Array], rows: Rows, attacking: Attacking) -> Array:
    del attacking
    unit = power_of_two(jnp.max(rows.sizes))
    rows = rows._replace(values=rows.values / unit)
    mean = mean_of(rows)
    direction = away(rows, mean)
    return unit * (mean + _furthest(rows, mean, direction) * direction)


def _furthest(rows: Rows, mean: Array, direction: Array) -> Array:
    """Returns γ, the smallest upper root of the honest clients' parabolas; 0 if p = 0."""
    e = mean[None] - rows.values
    a, b = jnp.sum(jnp.square(direction)), jnp.sum(direction[None] * e, axis=1)
    room = jnp.maximum(farthest_apart(rows) - jnp.sum(jnp.square(e), axis=1), 0)
    root = jnp.sqrt(jnp.square(b) + a * room)
    # the form of the two that subtracts nothing
    upper = jnp.where(
        b > 0, room / jnp.where(b > 0, b + root, 1), (root - b) / jnp.where(a > 0, a, 1)
    )
    smallest = jnp.min(jnp.where(rows.present, upper, jnp.inf))
    return jnp.where(rows.present.any(), smallest, 0)
