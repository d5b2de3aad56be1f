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
from jax.flatten_util import ravel_pytree

from fedjax_ecgr import check
from fedjax_ecgr.regulators.base import Regulator, Replay
from fedjax_ecgr.regulators.sketch import draw_flips, sketch
from fedjax_ecgr.types import Array, PyTree

# The bits of a bfloat16. XLA has no loops over that type itself on a CPU: it widens all rows.
_BITS = jnp.dtype(jnp.uint16)
# Columns of the rows that a matrix product takes at once. On a CPU it copies what it is given: one
# product of all was twice as slow, and took as much memory again as the rows.
_COLUMNS = 2**14


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
    plan = _plan(_gram(rows, units.dtype), units, mask, beta, select_ratio, rule)
    return _rescaled(plan, *_summed(plan, rows, units, mask))


class _State(NamedTuple):
    """Steps so far: of d_λ / units[λ], `rows[λ]` keeps something; zero from `num_steps` on."""

    rows: PyTree
    units: Array
    num_steps: Array
    hyperparameters: Mapping[str, Array]


class _Sketched(NamedTuple):
    """What a replay keeps of each step, sketch [τ, m] and ‖row‖² [τ], and the sketches' signs."""

    steps: _State
    flips: Array


class _Plan(NamedTuple):
    """What a Gram matrix decides: steps 1 and 2.

    Attributes:
      selection: the convergent steps.
      num_steps: τ.
      weights: [τ], 1 for convergent and β for exploratory steps.
      unit: the largest of the steps' units; sums are over it.
      noise: a blend no longer than this is rounding.
    """

    selection: Selection
    num_steps: Array
    weights: Array
    unit: Array
    noise: Array


class _Sums(NamedTuple):
    """The second pass of a replay: `Σ d` and `u` over the plan's unit, steps counted so far."""

    plan: _Plan
    total: PyTree
    blended: PyTree
    num_steps: Array


STORAGES = {
    "full": "each delta as it is: exact",
    "bfloat16": "each delta rounded to bfloat16: half the memory, entries off by up to 0.2 %",
    "replay": "sketches, then the same local steps again: little memory, twice the computation",
}
"""What a client in flight keeps of its step deltas."""


def ecgr(
    beta: Array | float = 0.2,
    select_ratio: Array | float = 0.5,
    rule: str = "greedy",
    storage: str = "full",
    sketch_size: int = 1024,
) -> Regulator:
    r"""Returns ECGR as a regulator, applied per local step (arXiv 2601.03584).

    `update` stores something of the step's delta, `finalize` re-aggregates. With P parameters and
    room for τ steps (those of the federation's largest client), a client in flight holds

    - `full`: τ P numbers; the same result as `reaggregate` on the stacked deltas.
    - `bfloat16`: half the bytes of float32. Each entry is rounded to 8 significant bits; G and the
      sums are accumulated in the parameters' type, so the result is that of `reaggregate` on the
      rounded deltas.
    - `replay`: m τ + 2 P numbers, m the sketch size, and a byte for each parameter. G's diagonal is
      exact, the rest is estimated from sketches, unbiased, with a standard deviation of about
      $\sqrt{2/m}$ times the two lengths or less: steps with nearly the same score may swap. The
      local steps then run again, at twice the computation, to add up what was selected; so blend
      and length are exact for that selection. `smallest_norm`, or m ≥ P, is exact altogether.

    Args:
      beta: β in [0, 1], the weight of the exploratory steps; 1 gives back the plain update.
      select_ratio: ρ in (0, 1], the share of convergent steps; 1 gives back the plain update.
      rule: how convergent steps are chosen: greedy, smallest_norm, nearest_mean or cosine_mean.
      storage: what a client keeps of its step deltas: full, bfloat16 (half the memory) or replay
        (memory for the sketches alone, at twice the computation).
      sketch_size: m, numbers kept of each delta by `replay`; more selects more like the exact rule.

    Raises:
      InputError: if β, ρ, the rule, the storage or the size is not allowed.

    Example:
      >>> regulator = ecgr(beta=0.0, select_ratio=0.7)
      >>> state = regulator.init({"w": jnp.zeros(2)}, max_steps=4)
      >>> for delta in ([3.0, 0.0], [1.0, 1.0], [-1.0, -0.5]):
      ...     state = regulator.update({"w": jnp.array(delta)}, state)
      >>> update, info = regulator.finalize(state, {"w": jnp.array([3.0, 0.5])})
      >>> [round(float(x), 4) for x in update["w"]]
      [0.0, 3.0414]
    """
    _check(beta, select_ratio, rule)
    check.known("storage", storage, STORAGES)
    check.count("sketch_size", sketch_size)
    own = {"beta": beta, "select_ratio": select_ratio}
    if storage == "replay":
        return _of_vectors(_replaying(own, rule, sketch_size))

    def init(
        params: PyTree, max_steps: int, hyperparameters: Mapping[str, Any] | None = None
    ) -> _State:
        def rows(p: Array) -> Array:
            return jnp.zeros((max_steps, *p.shape), _BITS if storage == "bfloat16" else p.dtype)

        numbers = own if hyperparameters is None else hyperparameters
        return _start(jax.tree.map(rows, params), params, max_steps, numbers)

    def update(delta: PyTree, state: _State, active: Array | bool = True) -> _State:
        return _store(state, *_in_units(delta, active), active)

    def finalize(state: _State, total: PyTree) -> tuple[PyTree, ECGRInfo]:
        del total  # what is kept of the deltas has a sum of its own, in units that cannot overflow
        plan = _planned(_gram(state.rows, state.units.dtype), state, rule)
        return _rescaled(plan, *_summed(plan, state.rows, state.units, _mask(state)))

    return _of_vectors(Regulator("ecgr", own, init, update, finalize))


def _of_vectors(inner: Regulator) -> Regulator:
    """Returns the regulator that shows `inner` every pytree as one vector.

    A step then stores one row and measures one length, whatever the number of the model's layers.
    """

    def init(
        params: PyTree, max_steps: int, hyperparameters: Mapping[str, Any] | None = None
    ) -> PyTree:
        return inner.init(ravel_pytree(params)[0], max_steps, hyperparameters)

    def update(delta: PyTree, state: PyTree, active: Array | bool = True) -> PyTree:
        return inner.update(ravel_pytree(delta)[0], state, active)

    def finalize(state: PyTree, total: PyTree) -> tuple[PyTree, PyTree]:
        vector, unravel = ravel_pytree(total)
        update, info = inner.finalize(state, vector)
        return unravel(update), info

    replay = inner.replay
    if replay is not None:
        begin, again = replay
        replay = Replay(
            lambda params, state: begin(ravel_pytree(params)[0], state),
            lambda delta, state, active=True: again(ravel_pytree(delta)[0], state, active),
        )
    return Regulator(inner.name, inner.hyperparameters, init, update, finalize, replay)


def _replaying(own: Mapping[str, Any], rule: str, sketch_size: int) -> Regulator:
    """ECGR that selects from sketches, and adds up in a second pass."""

    def init(
        params: PyTree, max_steps: int, hyperparameters: Mapping[str, Any] | None = None
    ) -> _Sketched:
        numbers = own if hyperparameters is None else hyperparameters
        length = optax.tree.size(params)
        size = length if sketch_size >= length else sketch_size | 1  # odd: see `sketch`
        dtype = jnp.result_type(*jax.tree.leaves(params))
        rows = (jnp.zeros((max_steps, size), dtype), jnp.zeros(max_steps, dtype))
        # the same signs for all clients and rounds: results depend on nothing but the deltas
        flips = draw_flips(jax.random.key(0, impl="threefry2x32"), length)
        return _Sketched(_start(rows, params, max_steps, numbers), flips)

    def update(delta: PyTree, state: _Sketched, active: Array | bool = True) -> _Sketched:
        row, unit = _in_units(delta, active)
        size, dtype = state.steps.rows[0].shape[1], state.steps.units.dtype
        flat = jnp.concatenate([leaf.astype(dtype).ravel() for leaf in jax.tree.leaves(row)])
        kept = (sketch(state.flips, size, flat), jnp.sum(jnp.square(flat)))
        return state._replace(steps=_store(state.steps, kept, unit, active))

    def begin(params: PyTree, state: _Sketched) -> _Sums:
        sketches, squares = state.steps.rows
        same = jnp.eye(squares.shape[0], dtype=bool)
        gram = jnp.where(same, squares[:, None], _gram(sketches, squares.dtype))
        plan = _planned(gram, state.steps, rule)
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _Sums(plan, zeros, zeros, jnp.zeros((), jnp.int32))

    return Regulator("ecgr", own, init, update, _finalize_sums, Replay(begin, _add))


def _add(delta: PyTree, state: _Sums, active: Array | bool = True) -> _Sums:
    # the second pass has the first's units, so that a sum fits wherever its parts do
    step = jax.tree.map(lambda d: jnp.where(active, d / state.plan.unit, 0), delta)
    weight = state.plan.weights[state.num_steps]
    return state._replace(
        total=jax.tree.map(jnp.add, state.total, step),
        blended=jax.tree.map(lambda sum_, d: sum_ + weight * d, state.blended, step),
        num_steps=state.num_steps + jnp.asarray(active, jnp.int32),
    )


def _finalize_sums(state: _Sums, total: PyTree) -> tuple[PyTree, ECGRInfo]:
    del total  # summed in units that cannot overflow
    return _rescaled(state.plan, state.total, state.blended)


def _start(
    rows: PyTree,
    params: PyTree,
    max_steps: int,
    hyperparameters: Mapping[str, Any],
) -> _State:
    dtype = jnp.result_type(*jax.tree.leaves(params))
    numbers = {name: jnp.asarray(value, dtype) for name, value in hyperparameters.items()}
    return _State(rows, jnp.zeros(max_steps, dtype), jnp.zeros((), jnp.int32), numbers)


def _mask(state: _State) -> Array:
    return jnp.arange(state.units.shape[0], dtype=jnp.int32) < state.num_steps


def _planned(gram: Array, state: _State, rule: str) -> _Plan:
    return _plan(gram, state.units, _mask(state), rule=rule, **state.hyperparameters)


def _store(state: _State, row: PyTree, unit: Array, active: Array | bool) -> _State:
    # A masked step writes a row of zeros that the next step overwrites.
    at = state.num_steps
    return state._replace(
        rows=jax.tree.map(lambda rows, x: rows.at[at].set(_narrow(x, rows)), state.rows, row),
        units=state.units.at[at].set(unit),
        num_steps=at + jnp.asarray(active, jnp.int32),
    )


def _narrow(row: Array, rows: Array) -> Array:
    """Returns a row as it is stored among `rows`."""
    if rows.dtype != _BITS:
        return row
    return jax.lax.bitcast_convert_type(row.astype(jnp.bfloat16), _BITS)


def _widen(rows: Array, dtype: Any) -> Array:
    """Returns what is stored as numbers of `dtype`, which it has unless it is in bfloat16."""
    if rows.dtype != _BITS:
        return rows
    return jax.lax.bitcast_convert_type(rows, jnp.bfloat16).astype(dtype)


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


def _plan(
    gram: Array,
    units: Array,
    mask: Array,
    beta: Array | float,
    select_ratio: Array | float,
    rule: str,
) -> _Plan:
    """Step 1 and the weights of step 2, from the Gram matrix of the steps over their units."""
    dtype = units.dtype
    unit = jnp.max(units, where=mask, initial=jnp.finfo(dtype).tiny)
    relative = jnp.where(mask, units / unit, 0)
    gram = relative[:, None] * relative[None, :] * gram

    num_steps = mask.sum(dtype=jnp.int32)
    share = num_steps.astype(dtype) * jnp.asarray(select_ratio, dtype)
    num_selected = jnp.maximum(1, jnp.floor(share).astype(jnp.int32))
    selection = select(gram, num_selected, rule, mask)
    weights = jnp.where(selection.chosen, 1, jnp.asarray(beta, dtype))
    # Rounding alone leaves about this much of deltas that cancel; the direction is then noise.
    noise = 4 * jnp.finfo(dtype).eps * jnp.sum(weights * jnp.sqrt(jnp.diagonal(gram)))
    return _Plan(selection, num_steps, weights, unit, noise)


def _summed(plan: _Plan, rows: PyTree, units: Array, mask: Array) -> tuple[PyTree, PyTree]:
    """Σ d and u over the plan's unit, of rows that are zero where masked."""
    relative = jnp.where(mask, units / plan.unit, 0)
    both = _combine(jnp.stack([relative, plan.weights * relative]), rows)
    return jax.tree.map(lambda x: x[0], both), jax.tree.map(lambda x: x[1], both)


def _rescaled(plan: _Plan, total: PyTree, blended: PyTree) -> tuple[PyTree, ECGRInfo]:
    """Step 3, for sums over the plan's unit."""
    total_norm, blended_norm = optax.tree.norm(total), optax.tree.norm(blended)
    vanished = blended_norm <= plan.noise
    rescale = jnp.where(vanished, 1, total_norm / jnp.where(vanished, 1, blended_norm))
    # Finite deltas may add up to more than the type holds; a delta that is not finite stays so.
    most = jnp.finfo(total_norm.dtype).max
    largest = jnp.where(jnp.isfinite(total_norm), most, jnp.nan)
    update = jax.tree.map(
        lambda t, b: jnp.clip(jnp.where(vanished, t, b * rescale) * plan.unit, -largest, largest),
        total,
        blended,
    )
    product = optax.tree.vdot(total, blended)
    lengths = jnp.where(vanished, 1, total_norm * blended_norm)
    cosine = jnp.where((lengths > 0) & ~vanished, product / jnp.where(lengths > 0, lengths, 1), 1)
    return update, ECGRInfo(plan.selection, plan.num_steps, rescale, cosine)


def _gram(rows: PyTree, dtype: Any) -> Array:
    """D Dᵀ, [τ, τ], accumulated in `dtype` (on a GPU: no TF32)."""
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    return jnp.stack([_products(leaf, dtype) for leaf in flat]).sum(axis=0)


def _products(flat: Array, dtype: Any) -> Array:
    """A Aᵀ of one leaf, some columns at a time: the product copies (or widens) what it is given."""

    def of_some(first: Array | int, width: int) -> Array:
        columns = _widen(jax.lax.dynamic_slice_in_dim(flat, first, width, axis=1), dtype)
        return jnp.matmul(columns, columns.T, precision=jax.lax.Precision.HIGHEST)

    whole, rest = divmod(flat.shape[1], _COLUMNS)
    gram = of_some(whole * _COLUMNS, rest)
    if not whole:
        return gram
    return jax.lax.fori_loop(0, whole, lambda i, g: g + of_some(i * _COLUMNS, _COLUMNS), gram)


def _combine(coefficients: Array, rows: PyTree) -> PyTree:
    """Sums over the step axis: [n, τ] coefficients, [τ, ...] rows to [n, ...]."""
    number, steps = coefficients.shape

    def of_leaf(d: Array) -> Array:
        def add(i: Array, total: Array) -> Array:
            return total + jnp.multiply.outer(coefficients[:, i], _widen(d[i], total.dtype))

        if d.dtype != _BITS:
            return jnp.tensordot(coefficients, d, axes=1, precision=jax.lax.Precision.HIGHEST)
        zero = jnp.zeros((number, *d.shape[1:]), coefficients.dtype)
        return jax.lax.fori_loop(0, steps, add, zero)

    return jax.tree.map(of_leaf, rows)


def _check(beta: Any, select_ratio: Any, rule: str) -> None:
    check.number("beta", beta, low=0, high=1)
    check.number("select_ratio", select_ratio, low=0, high=1, low_open=True)
    check.known("rule", rule, RULES)
