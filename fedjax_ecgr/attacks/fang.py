r"""Local model poisoning against Krum (Fang, Cao, Jia, Gong, USENIX 2020, arXiv 1911.11815).

All malicious clients send one update, against the signs of the honest clients' mean $\mu$, as far
as Krum would still choose it:

$$u = -\lambda \operatorname{sign}\mu, \qquad
\lambda = \max\{\lambda_0 2^{-k} : \text{Krum of all updates is } u\},$$

from the paper's bound, with $m$ malicious of $n$ clients and $d$ coordinates that have a sign,

$$\lambda_0 = \frac{1}{\sqrt d} \Big(
\frac{1}{n - 2m - 1} \min_i \sum_{j \in \Gamma_i} \|u_i - u_j\| + \max_i \|u_i\| \Big),$$

$\Gamma_i$ the $n - m - 2$ honest updates nearest to the honest $u_i$. Where no $\lambda$ of at
least $10^{-5}$ is chosen, the first below that is sent. Where $n \le 2m + 1$, which the bound is
not for, its fraction counts as one. Other rules meet the same update. Flower's FLANDERS calls the
attack OPT, and has it move a model of the first round in place of the present one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.aggregators.distances import nearest_first, power_of_two, squared_distances
from fedjax_ecgr.aggregators.matrix import Rows
from fedjax_ecgr.aggregators.sorting import sort_present
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.attacks.colluding import colluding, mean_of
from fedjax_ecgr.types import Array

LEAST = 1e-5
"""λ below which the search ends."""


def fang() -> Attack:
    """Returns the attack that Krum takes for the best update, as far off as that goes.

    Example:
      >>> fang().name
      'fang'
    """
    return Attack("fang", {}, together=colluding(_fang))


class _Honest(NamedTuple):
    """What the search needs of the honest updates.

    Attributes:
      apart: [c, c], in column i the squared distances of u_i to the other honest ones, rising.
      among: [c + 1, c], row k the sum of the k least of them.
      products: [c], ⟨sign μ, u_i⟩.
      squares: [c], ‖u_i‖².
      present: [c] bool.
      number: n − m.
    """

    apart: Array
    among: Array
    products: Array
    squares: Array
    present: Array
    number: Array


def _fang(rows: Rows, attacking: Attacking) -> Array:
    unit = power_of_two(jnp.max(rows.sizes))
    rows = rows._replace(values=rows.values / unit)
    signs = jnp.sign(mean_of(rows))
    malicious = attacking.malicious.sum(dtype=jnp.int32)
    moved = jnp.sum(jnp.abs(signs))
    apart = nearest_first(squared_distances(rows, jnp.ones_like(unit)), rows.present)
    honest = _Honest(
        apart,
        _sums(apart, rows.num_present - 1),
        jnp.sum(rows.values * signs[None], axis=1),
        jnp.sum(jnp.square(rows.values), axis=1),
        rows.present,
        rows.num_present,
    )
    number = honest.number
    near = jnp.maximum(number - 2, jnp.minimum(1, number + malicious - 1))
    lengths = _sums(jnp.sqrt(apart), number - 1)[jnp.minimum(near, number - 1)]
    nearest = jnp.min(jnp.where(rows.present, lengths, jnp.inf))
    fraction = nearest / jnp.maximum(number - malicious - 1, 1).astype(nearest.dtype)
    furthest = jnp.sqrt(jnp.max(jnp.where(rows.present, honest.squares, 0)))
    start = (fraction + furthest) / jnp.sqrt(jnp.maximum(moved, 1))

    def goes_on(length: Array) -> Array:
        return (length >= LEAST / unit) & ~_chosen(honest, malicious, near, moved, length)

    length = jax.lax.while_loop(goes_on, lambda length: length / 2, start)
    return -unit * length * signs


def _chosen(honest: _Honest, malicious: Array, near: Array, moved: Array, length: Array) -> Array:
    """Whether Krum takes −λ sign μ, which all malicious clients send; they win a tie."""
    away = length**2 * moved + 2 * length * honest.products + honest.squares
    own = _sums(sort_present(away[:, None], honest.present[:, None]), honest.number)[:, 0]
    theirs = own[jnp.clip(near - (malicious - 1), 0, honest.number)]

    # of the honest ones: those nearer than the malicious, these, and more honest ones if need be
    nearer = jnp.minimum((honest.apart < away[None]).sum(axis=0, dtype=jnp.int32), near)
    copies = jnp.minimum(malicious, near - nearer)
    column = jnp.arange(away.size, dtype=jnp.int32)
    scores = honest.among[near - copies, column] + copies.astype(away.dtype) * away
    return theirs <= jnp.min(jnp.where(honest.present, scores, jnp.inf))


def _sums(ordered: Array, count: Array) -> Array:
    """Returns the sums of the first 0, 1, … of a column's `count` numbers, and of all behind."""
    there = jnp.arange(ordered.shape[0], dtype=jnp.int32)[:, None] < count
    sums = jnp.cumsum(jnp.where(there, ordered, 0), axis=0)
    return jnp.concatenate([jnp.zeros_like(sums[:1]), sums])
