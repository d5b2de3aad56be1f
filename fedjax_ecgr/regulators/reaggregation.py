r"""Blend and re-scale: what ECGR makes of step deltas whose convergent ones are known.

$u = \sum_{\lambda\in C} d_\lambda + \beta \sum_{\lambda\in E} d_\lambda$ and
$\tilde u = u\,\|\sum_\lambda d_\lambda\| / \|u\|$ (arXiv 2601.03584).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.regulators.rows import combine, in_range, largest_of_all
from fedjax_ecgr.regulators.selection import RULES, Selection, select
from fedjax_ecgr.types import Array, PyTree, counting_dtype

SMALL = 512  # rows: their products take about as long as so many steps of a linear model


class ECGRInfo(NamedTuple):
    """What ECGR did to one client's update.

    Attributes:
      selection: the convergent steps.
      num_steps: τ, int32.
      rescale: ‖Σ d‖ / ‖u‖, the factor of step 3; 1 where ‖u‖ = 0.
      cosine: cosine between the plain and the regulated update; 1 where either is zero.
      spread: how much the steps disagree, 1 − ‖Σ d‖² / (τ Σ ‖d‖²), in [0, 1]: 0 for equal steps,
        1 for steps that cancel; 0 where nothing moved.
    """

    selection: Selection
    num_steps: Array
    rescale: Array
    cosine: Array
    spread: Array


class Plan(NamedTuple):
    """What a Gram matrix decides: steps 1 and 2.

    Attributes:
      selection: the convergent steps.
      num_steps: τ.
      weights: [τ], 1 for convergent and β for exploratory steps.
      unit: the largest of the steps' units; sums are over it.
      noise: a blend no longer than this is rounding.
      energy: Σ ‖d‖² over the unit².
      product: ⟨Σ d, u⟩, likewise.
    """

    selection: Selection
    num_steps: Array
    weights: Array
    unit: Array
    noise: Array
    energy: Array
    product: Array


class Lengths(NamedTuple):
    """‖Σ d‖, ‖u‖ and their inner product, over the plan's unit."""

    total: Array
    blended: Array
    product: Array


def reaggregate(
    deltas: PyTree,
    *,
    beta: Array | float,
    select_ratio: Array | float,
    rule: str = "greedy",
    mask: Array | None = None,
) -> tuple[PyTree, ECGRInfo]:
    r"""Re-aggregates one client's step deltas: the whole of ECGR as one pure function.

    $\tilde u = D^\top c$ with $c_\lambda = s$ for convergent and $c_\lambda = s\beta$ for
    exploratory steps, $s$ such that $\|\tilde u\| = \|\sum_\lambda d_\lambda\|$ (arXiv
    2601.03584). Where the blended update vanishes, to rounding, the plain sum is returned, so that
    finite deltas never give NaN or Inf.

    Args:
      deltas: pytree of [τ, ...] arrays, the steps $d_\lambda = w_{\lambda-1} - w_\lambda$ along
        the first axis.
      beta: β in [0, 1], the weight of the exploratory steps; may be traced.
      select_ratio: ρ in (0, 1], the share of convergent steps; may be traced.
      rule: selection rule, see `select`; static.
      mask: [τ] bool, false at steps that do not exist, whatever their rows hold.

    Returns:
      `(update, info)`: ũ like the parameters, and `ECGRInfo`.

    Raises:
      InputError: if β, ρ or the rule is not allowed, or there is no step.

    Example:
      >>> deltas = {"w": jnp.array([[3.0, 0.0], [1.0, 1.0], [-1.0, -0.5]])}
      >>> update, info = reaggregate(deltas, beta=0.0, select_ratio=0.7)
      >>> info.selection.chosen.tolist()
      [False, True, True]
      >>> [round(float(x), 4) for x in update["w"]]  # along d₂ + d₃, as long as d₁ + d₂ + d₃
      [0.0, 3.0414]
    """
    check_options(beta, select_ratio, rule)
    deltas = jax.tree.map(jnp.asarray, deltas)
    steps = _num_steps(deltas)
    if mask is None:
        mask = jnp.ones(steps, bool)
    else:
        mask = jnp.asarray(mask)
        absent = ~mask
        deltas = jax.tree.map(
            lambda d: jnp.where(jnp.expand_dims(absent, tuple(range(1, d.ndim))), 0, d), deltas
        )
    dtype = jnp.result_type(*jax.tree.leaves(deltas))
    return regulated(deltas, mask, dtype, beta=beta, select_ratio=select_ratio, rule=rule)


def _num_steps(deltas: PyTree) -> int:
    """Returns τ; raises `InputError` unless all leaves have it, and it is not 0."""
    shapes = [delta.shape for delta in jax.tree.leaves(deltas)]
    if not shapes or len({shape[:1] for shape in shapes}) > 1 or shapes[0][:1] in ((), (0,)):
        given = ", ".join(map(str, shapes)) or "no array"
        raise check.InputError(
            f"deltas: {given} is not allowed, it must be arrays (steps, ...) of one number of "
            "steps, at least 1"
        )
    return shapes[0][0]


def regulated(
    rows: PyTree,
    mask: Array,
    dtype: Any,
    *,
    beta: Array | float,
    select_ratio: Array | float,
    rule: str,
    total: PyTree | None = None,
) -> tuple[PyTree, ECGRInfo]:
    """Steps 1 to 3, of rows as `rows.store` keeps them, zero where masked.

    Args:
      rows: the rows.
      mask: [τ] bool.
      dtype: of the result.
      beta: β.
      select_ratio: ρ.
      rule: selection rule.
      total: Σ d where it is known; else the rows are added up.
    """

    def plan_of_first(steps: int) -> Plan:
        first = mask[:steps]
        return plan_of(*in_range(rows, first, dtype), first, beta, select_ratio, rule)

    plan = plan_in_room(plan_of_first, mask)
    weights = plan.weights / plan.unit
    if total is None:
        plain, blended = _sums(jnp.stack([jnp.ones_like(weights) / plan.unit, weights]), rows)
        lengths = measured(plain, blended)
        total = jax.tree.map(lambda t: t * plan.unit, plain)
    else:
        (blended,) = _sums(weights[None], rows)
        norm = optax.tree.norm(total)
        # over a unit only where there is one: `in_range` has none but 1, nearly always
        norm = jax.lax.cond(
            largest_of_all(plan.unit != 1), lambda: _norm_over(plan.unit, total), lambda: norm
        )
        lengths = Lengths(norm, optax.tree.norm(blended), plan.product)
    return rescaled(plan, total, blended, lengths)


def plan_in_room(plan_of_first: Callable[[int], Plan], mask: Array) -> Plan:
    """Returns the plan of all steps, made of no more rows than they need, nearly.

    Rows have room for the steps of the federation's largest client, and their Gram matrix takes
    time quadratic in it: so the first half, quarter, … that holds a client's steps stands for all.
    Under `vmap` that is the one for the client with most, so that one is computed, not each.

    Args:
      plan_of_first: from a number of rows to the plan of these.
      mask: [τ] bool.
    """
    rooms = [len(mask)]
    while rooms[-1] > SMALL:
        rooms.append(-(-rooms[-1] // 2))
    if len(rooms) == 1:
        return plan_of_first(len(mask))

    def of_first(room: int) -> Plan:
        plan, behind = plan_of_first(room), (0, len(mask) - room)
        chosen = jnp.pad(plan.selection.chosen, behind)
        order = jnp.pad(plan.selection.order, behind, constant_values=-1)
        return plan._replace(
            selection=Selection(chosen, order), weights=jnp.pad(plan.weights, behind)
        )

    counted = jnp.arange(1, len(mask) + 1, dtype=jnp.int32)
    steps = largest_of_all(jnp.max(counted, where=mask, initial=0))
    halvings = sum((steps <= room).astype(jnp.int32) for room in rooms[1:])
    return jax.lax.switch(halvings, [partial(of_first, room) for room in rooms])


def plan_of(
    gram: Array,
    units: Array,
    mask: Array,
    beta: Array | float,
    select_ratio: Array | float,
    rule: str,
) -> Plan:
    """Step 1 and the weights of step 2, from the Gram matrix of the steps over their units."""
    dtype = units.dtype
    unit = jnp.max(units, where=mask, initial=jnp.finfo(dtype).tiny)
    relative = jnp.where(mask, units / unit, 0)
    gram = relative[:, None] * relative[None, :] * gram

    num_steps = mask.sum(dtype=jnp.int32)
    counting = counting_dtype(dtype)
    share = num_steps.astype(counting) * jnp.asarray(select_ratio, counting)
    num_selected = jnp.maximum(1, jnp.floor(share).astype(jnp.int32))
    selection = select(gram, num_selected, rule, mask)
    weights = jnp.where(selection.chosen, 1, jnp.asarray(beta, dtype))
    # Rounding alone leaves about this much of deltas that cancel; the direction is then noise.
    noise = 4 * jnp.finfo(dtype).eps * jnp.sum(weights * jnp.sqrt(jnp.diagonal(gram)))
    product = jnp.sum(gram * weights[None])
    return Plan(selection, num_steps, weights, unit, noise, jnp.trace(gram), product)


def measured(total: PyTree, blended: PyTree) -> Lengths:
    """Returns the lengths of both sums, which are over the plan's unit."""
    norms = optax.tree.norm(total), optax.tree.norm(blended)
    return Lengths(*norms, optax.tree.vdot(total, blended))


def rescaled(
    plan: Plan, total: PyTree, blended: PyTree, lengths: Lengths
) -> tuple[PyTree, ECGRInfo]:
    """Step 3, of Σ d as it is and u over the plan's unit."""
    vanished = lengths.blended <= plan.noise
    rescale = jnp.where(vanished, 1, lengths.total / jnp.where(vanished, 1, lengths.blended))
    # Finite deltas may add up to more than the type holds; a delta that is not finite stays so.
    most = jnp.finfo(rescale.dtype).max
    largest = jnp.where(jnp.isfinite(lengths.total), most, jnp.nan)
    update = jax.tree.map(
        lambda t, b: jnp.clip(jnp.where(vanished, t, b * rescale * plan.unit), -largest, largest),
        total,
        blended,
    )
    both = jnp.where(vanished, 0, lengths.total * lengths.blended)
    cosine = jnp.where(both > 0, jnp.clip(lengths.product / jnp.where(both > 0, both, 1), -1, 1), 1)
    longest = plan.num_steps.astype(plan.energy.dtype) * plan.energy
    alike = jnp.square(lengths.total) / jnp.where(longest > 0, longest, 1)
    spread = jnp.where(longest > 0, jnp.clip(1 - alike, 0, 1), 0)
    return update, ECGRInfo(plan.selection, plan.num_steps, rescale, cosine, spread)


def _norm_over(unit: Array, tree: PyTree) -> Array:
    return optax.tree.norm(jax.tree.map(lambda x: x / unit, tree))


def _sums(coefficients: Array, rows: PyTree) -> list[PyTree]:
    sums = combine(coefficients, rows)
    return [jax.tree.map(lambda x, i=i: x[i], sums) for i in range(len(coefficients))]


def check_options(beta: Any, select_ratio: Any, rule: str) -> None:
    """Raises `InputError` unless β, ρ and the rule are allowed."""
    check.number("beta", beta, low=0, high=1)
    check.number("select_ratio", select_ratio, low=0, high=1, low_open=True)
    check.known("rule", rule, RULES)
