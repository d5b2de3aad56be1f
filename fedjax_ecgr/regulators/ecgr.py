r"""ECGR: Exploratory-Convergent Gradient Re-aggregation (arXiv 2601.03584).

Once a round, on each client, with step deltas $d_1 \dots d_\tau$, the rows of $D$:

1. select $k = \max(1, \lfloor \tau\rho \rfloor)$ *convergent* steps $C$; greedily, by default:
   from $S = 0$, $k$ times, the step that makes $\|S + d_\lambda\|$ smallest joins $S$. The others
   are the *exploratory* steps $E$;
2. blend $u = \sum_{\lambda\in C} d_\lambda + \beta \sum_{\lambda\in E} d_\lambda$;
3. re-scale $\tilde u = u\,\|\sum_\lambda d_\lambda\| / \|u\|$: only the direction is
   regulated.

All that the selection needs is the Gram matrix $G = DD^\top$, since
$\|S + d_\lambda\|^2 = \|S\|^2 + 2 r_\lambda + G_{\lambda\lambda}$ with
$r = \sum_{j\in C} G_{j\cdot}$: $O(k\tau)$ scalars after one matrix product. And
$\tilde u = D^\top c$ for a coefficient vector $c$.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.regulators.base import Array, PyTree, Regulator


class Selection(NamedTuple):
    """Which steps are convergent.

    Attributes:
      chosen: [τ] bool.
      order: [τ] int32, the chosen steps in the order chosen, -1 behind the last.
    """

    chosen: Array
    order: Array


class ECGRInfo(NamedTuple):
    """What ECGR did to one client's update.

    Attributes:
      selection: the convergent steps.
      num_steps: τ, int32.
      rescale: ‖Σ d‖ / ‖u‖, the factor of step 3; 1 where ‖u‖ = 0.
      cosine: cosine between the plain and the regulated update; 1 where either is zero.
    """

    selection: Selection
    num_steps: Array
    rescale: Array
    cosine: Array


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
      InputError: if β, ρ or the rule is not allowed.

    Example:
      >>> deltas = {"w": jnp.array([[3.0, 0.0], [1.0, 1.0], [-1.0, -0.5]])}
      >>> update, info = reaggregate(deltas, beta=0.0, select_ratio=0.7)
      >>> info.selection.chosen.tolist()
      [False, True, True]
      >>> [round(float(x), 4) for x in update["w"]]  # along d₂ + d₃, as long as d₁ + d₂ + d₃
      [0.0, 3.0414]
    """
    _check(beta, select_ratio, rule)
    deltas = jax.tree.map(jnp.asarray, deltas)
    steps = jax.tree.leaves(deltas)[0].shape[0]
    mask = jnp.ones(steps, bool) if mask is None else jnp.asarray(mask)
    rows, units = jax.vmap(_in_units)(deltas, mask)
    return _blend(rows, units, mask, beta, select_ratio, rule)


class _State(NamedTuple):
    """Deltas so far: `rows[λ] * units[λ]` is d_λ, zero from `num_steps` on."""

    rows: PyTree
    units: Array
    num_steps: Array
    hyperparameters: Mapping[str, Array]


def ecgr(
    beta: Array | float = 0.2, select_ratio: Array | float = 0.5, rule: str = "greedy"
) -> Regulator:
    """Returns ECGR as a regulator, applied per local step (arXiv 2601.03584).

    `update` stores the step's delta, `finalize` re-aggregates: the same result as `reaggregate` on
    the stacked deltas. A client in flight holds `max_steps` copies of the parameters.

    Args:
      beta: β in [0, 1], the weight of the exploratory steps; 1 gives back the plain update.
      select_ratio: ρ in (0, 1], the share of convergent steps; 1 gives back the plain update.
      rule: how convergent steps are chosen: greedy, smallest_norm, nearest_mean or cosine_mean.

    Raises:
      InputError: if β, ρ or the rule is not allowed.

    Example:
      >>> regulator = ecgr(beta=0.0, select_ratio=0.7)
      >>> state = regulator.init({"w": jnp.zeros(2)}, max_steps=4)
      >>> for delta in ([3.0, 0.0], [1.0, 1.0], [-1.0, -0.5]):
      ...     state = regulator.update({"w": jnp.array(delta)}, state)
      >>> update, info = regulator.finalize(state)
      >>> [round(float(x), 4) for x in update["w"]]
      [0.0, 3.0414]
    """
    _check(beta, select_ratio, rule)
    own = {"beta": beta, "select_ratio": select_ratio}

    def init(
        params: PyTree, max_steps: int, hyperparameters: Mapping[str, Any] | None = None
    ) -> _State:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        rows = jax.tree.map(lambda p: jnp.zeros((max_steps, *p.shape), p.dtype), params)
        numbers = own if hyperparameters is None else hyperparameters
        numbers = {name: jnp.asarray(value, dtype) for name, value in numbers.items()}
        return _State(rows, jnp.zeros(max_steps, dtype), jnp.zeros((), jnp.int32), numbers)

    def finalize(state: _State) -> tuple[PyTree, ECGRInfo]:
        mask = jnp.arange(state.units.shape[0], dtype=jnp.int32) < state.num_steps
        return _blend(state.rows, state.units, mask, rule=rule, **state.hyperparameters)

    return Regulator("ecgr", own, init, _store, finalize)


def _store(delta: PyTree, state: _State, active: Array | bool = True) -> _State:
    # A masked step writes a row of zeros that the next step overwrites.
    row, unit = _in_units(delta, active)
    at = state.num_steps
    return state._replace(
        rows=jax.tree.map(lambda rows, new: rows.at[at].set(new), state.rows, row),
        units=state.units.at[at].set(unit),
        num_steps=at + jnp.asarray(active, jnp.int32),
    )


def _in_units(delta: PyTree, active: Array | bool) -> tuple[PyTree, Array]:
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


def _blend(
    rows: PyTree,
    units: Array,
    mask: Array,
    beta: Array | float,
    select_ratio: Array | float,
    rule: str,
) -> tuple[PyTree, ECGRInfo]:
    """Steps 1 to 3 for deltas `rows[λ] * units[λ]`; rows are zero where masked."""
    dtype = units.dtype
    unit = jnp.max(units, where=mask, initial=jnp.finfo(dtype).tiny)
    relative = jnp.where(mask, units / unit, 0)
    gram = relative[:, None] * relative[None, :] * _gram(rows)

    num_steps = mask.sum(dtype=jnp.int32)
    share = num_steps.astype(dtype) * jnp.asarray(select_ratio, dtype)
    num_selected = jnp.maximum(1, jnp.floor(share).astype(jnp.int32))
    selection = select(gram, num_selected, rule, mask)

    weights = jnp.where(selection.chosen, 1, jnp.asarray(beta, dtype))
    both = _combine(jnp.stack([relative, weights * relative]), rows)
    total, blended = (jax.tree.map(lambda x, i=i: x[i], both) for i in range(2))
    total_norm, blended_norm = optax.tree.norm(total), optax.tree.norm(blended)

    # Rounding alone leaves about this much of deltas that cancel; the direction is then noise.
    noise = 4 * jnp.finfo(dtype).eps * jnp.sum(weights * jnp.sqrt(jnp.diagonal(gram)))
    vanished = blended_norm <= noise
    rescale = jnp.where(vanished, 1, total_norm / jnp.where(vanished, 1, blended_norm))
    # Finite deltas may add up to more than the type holds; a delta that is not finite stays so.
    largest = jnp.where(jnp.isfinite(total_norm), jnp.finfo(dtype).max, jnp.nan)
    update = jax.tree.map(
        lambda t, b: jnp.clip(jnp.where(vanished, t, b * rescale) * unit, -largest, largest),
        total,
        blended,
    )
    product = jnp.sum(weights[:, None] * gram)
    lengths = jnp.where(vanished, 1, total_norm * blended_norm)
    cosine = jnp.where((lengths > 0) & ~vanished, product / jnp.where(lengths > 0, lengths, 1), 1)
    return update, ECGRInfo(selection, num_steps, rescale, cosine)


def _gram(rows: PyTree) -> Array:
    """D Dᵀ, [τ, τ], accumulated in the rows' own precision (on a GPU: no TF32)."""
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    products = [jnp.matmul(d, d.T, precision=jax.lax.Precision.HIGHEST) for d in flat]
    return jnp.stack(products).sum(axis=0)


def _combine(coefficients: Array, rows: PyTree) -> PyTree:
    """Sums over the step axis: [n, τ] coefficients, [τ, ...] rows to [n, ...]."""
    return jax.tree.map(
        lambda d: jnp.tensordot(coefficients, d, axes=1, precision=jax.lax.Precision.HIGHEST),
        rows,
    )


def _check(beta: Any, select_ratio: Any, rule: str) -> None:
    check.number("beta", beta, low=0, high=1)
    check.number("select_ratio", select_ratio, low=0, high=1, low_open=True)
    check.known("rule", rule, RULES)
