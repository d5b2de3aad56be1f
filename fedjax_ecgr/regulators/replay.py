"""ECGR in little memory: it selects from sketches, then takes the local steps a second time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr.regulators.base import Given, Regulator, Replay
from fedjax_ecgr.regulators.reaggregation import ECGRInfo, Plan, plan_of, rescaled
from fedjax_ecgr.regulators.rows import Rows, empty, gram, in_units, store
from fedjax_ecgr.regulators.sketch import draw_flips, sketch
from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class _Sketched(NamedTuple):
    """What a replay keeps of each step, sketch [τ, m] and ‖row‖² [τ], and the sketches' signs."""

    steps: Rows
    flips: Array


class _Sums(NamedTuple):
    """The second pass of a replay: `Σ d` and `u` over the plan's unit, steps counted so far."""

    plan: Plan
    total: PyTree
    blended: PyTree
    num_steps: Array


def replaying(own: Hyperparameters, rule: str, sketch_size: int) -> Regulator:
    """Returns ECGR that selects from sketches, and adds up in a second pass."""

    def init(params: PyTree, max_steps: int, given: Given | None = None) -> _Sketched:
        del given
        length = optax.tree.size(params)
        size = length if sketch_size >= length else sketch_size | 1  # odd: see `sketch`
        dtype = jnp.result_type(*jax.tree.leaves(params))
        rows = (jnp.zeros((max_steps, size), dtype), jnp.zeros(max_steps, dtype))
        # the same signs for all clients and rounds: results depend on nothing but the deltas
        flips = draw_flips(jax.random.key(0, impl="threefry2x32"), length)
        return _Sketched(empty(rows, params, max_steps), flips)

    def update(delta: PyTree, state: _Sketched, active: Array | bool = True) -> _Sketched:
        row, unit = in_units(delta, active)
        size, dtype = state.steps.rows[0].shape[1], state.steps.units.dtype
        flat = jnp.concatenate([leaf.astype(dtype).ravel() for leaf in jax.tree.leaves(row)])
        kept = (sketch(state.flips, size, flat), jnp.sum(jnp.square(flat)))
        return state._replace(steps=store(state.steps, kept, unit, active))

    def begin(params: PyTree, state: _Sketched, given: Given | None = None) -> _Sums:
        numbers = own if given is None else given.hyperparameters
        steps, (sketches, squares) = state.steps, state.steps.rows
        same = jnp.eye(squares.shape[0], dtype=bool)
        products = jnp.where(same, squares[:, None], gram(sketches, squares.dtype))
        plan = plan_of(products, steps.units, steps.mask, rule=rule, **numbers)
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


def _finalize_sums(
    state: _Sums, total: PyTree, given: Given | None = None
) -> tuple[PyTree, ECGRInfo]:
    del given, total  # summed in units that cannot overflow
    return rescaled(state.plan, state.total, state.blended)
