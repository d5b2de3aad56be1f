r"""Which of a client's steps are convergent: rules on the Gram matrix of its step deltas.

All that a rule needs is $G = DD^\top$, since $\|S + d_\lambda\|^2 = \|S\|^2 + 2 r_\lambda +
G_{\lambda\lambda}$ with $r = \sum_{j\in C} G_{j\cdot}$: $O(k\tau)$ scalars (arXiv 2601.03584).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.types import Array


class Selection(NamedTuple):
    """Which steps are convergent.

    Attributes:
      chosen: [τ] bool.
      order: [τ] int32, the chosen steps in the order chosen, -1 behind the last.
    """

    chosen: Array
    order: Array


# Selection rules: (gram, num_selected, mask) -> the steps in the order chosen, [τ] int.


def _greedy(gram: Array, num_selected: Array, mask: Array) -> Array:
    """next the step that makes ‖S + d‖ smallest, S being the sum of those chosen so far"""
    norms = jnp.diagonal(gram)

    def choose(position: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        available, products, order = carry
        # ‖S + d‖² less ‖S‖², which is the same for every candidate
        scores = jnp.where(available, 2 * products + norms, jnp.inf)
        step = jnp.argmin(scores).astype(jnp.int32)
        return available.at[step].set(False), products + gram[step], order.at[position].set(step)

    start = (mask, jnp.zeros_like(norms), jnp.zeros(norms.shape, jnp.int32))
    return jax.lax.fori_loop(0, num_selected, choose, start)[2]


def _smallest_norm(gram: Array, num_selected: Array, mask: Array) -> Array:
    """the k smallest ‖d‖"""
    return _ranked(jnp.diagonal(gram), mask)


def _nearest_mean(gram: Array, num_selected: Array, mask: Array) -> Array:
    """the k smallest ‖d − d̄‖, d̄ being the mean of the steps"""
    count = jnp.maximum(mask.sum(), 1).astype(gram.dtype)
    # ‖d − d̄‖² less ‖d̄‖²
    return _ranked(jnp.diagonal(gram) - 2 * _products_with_sum(gram, mask) / count, mask)


def _cosine_mean(gram: Array, num_selected: Array, mask: Array) -> Array:
    """the k largest cos(d, d̄), d̄ being the mean of the steps"""
    norms = jnp.sqrt(jnp.diagonal(gram))
    # times ‖d̄‖ and the number of steps; a step that did not move has cosine 0
    cosines = jnp.where(
        norms > 0, _products_with_sum(gram, mask) / jnp.where(norms > 0, norms, 1), 0
    )
    return _ranked(-cosines, mask)


def _ranked(scores: Array, mask: Array) -> Array:
    return jnp.argsort(jnp.where(mask, scores, jnp.inf))


def _products_with_sum(gram: Array, mask: Array) -> Array:
    return jnp.matmul(gram, mask.astype(gram.dtype), precision=jax.lax.Precision.HIGHEST)


RULES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "greedy": _greedy,
    "smallest_norm": _smallest_norm,
    "nearest_mean": _nearest_mean,
    "cosine_mean": _cosine_mean,
}


def select(
    gram: Array, num_selected: Array | int, rule: str = "greedy", mask: Array | None = None
) -> Selection:
    """Chooses the convergent steps from the Gram matrix of the step deltas.

    Args:
      gram: [τ, τ], G = D Dᵀ. Only ratios matter: scaling it changes nothing.
      num_selected: k, how many to choose; may be traced; capped at the number of unmasked steps.
      rule: `greedy` (smallest ‖S + d‖ next), `smallest_norm` (the k smallest ‖d‖), `nearest_mean`
        (the k smallest ‖d − d̄‖) or `cosine_mean` (the k largest cos(d, d̄)); d̄ is the mean of the
        deltas. The lowest index wins a tie. Static.
      mask: [τ] bool, false at steps that do not exist.

    Returns:
      The chosen steps, as a mask and in order.

    Raises:
      InputError: for an unknown rule.

    Example:
      >>> deltas = jnp.array([[3.0, 0.0], [1.0, 1.0], [-1.0, -0.5]])
      >>> select(deltas @ deltas.T, 2).order.tolist()
      [2, 1, -1]
    """
    choose = check.known("rule", rule, RULES)
    gram = jnp.asarray(gram)
    mask = jnp.ones(gram.shape[0], bool) if mask is None else jnp.asarray(mask)
    num_selected = jnp.minimum(jnp.asarray(num_selected, jnp.int32), mask.sum(dtype=jnp.int32))
    order = choose(gram, num_selected, mask).astype(jnp.int32)
    order = jnp.where(jnp.arange(mask.shape[0], dtype=jnp.int32) < num_selected, order, -1)
    # an index of τ is out of bounds and dropped; -1 would be the last step
    targets = jnp.where(order >= 0, order, mask.shape[0])
    return Selection(jnp.zeros_like(mask).at[targets].set(True, mode="drop"), order)
