"""ECGR in little memory: it selects from sketches, then takes the local steps a second time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr.regulators.base import Given, Regulator, Replay
from fedjax_ecgr.regulators.reaggregation import (
    ECGRInfo,
    Plan,
    measured,
    plan_in_room,
    plan_of,
    rescaled,
)
from fedjax_ecgr.regulators.rows import Rows, empty, gram, store, unit_of
from fedjax_ecgr.regulators.sketch import draw_flips, sketch
from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class _Kept(NamedTuple):
    """What is kept of each step: its unit [τ], and over that its sketch [τ, m] and ‖·‖² [τ]."""

    unit: Array
    sketch: Array
    square: Array


class _Sketched(NamedTuple):
    """The first pass: what is kept of the steps, and the sketches' signs."""

    steps: Rows
    flips: Array


class _Sums(NamedTuple):
    """The second pass: Σ d and u over the plan's unit, steps counted so far."""

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
        scalars = jnp.zeros(max_steps, dtype)
        kept = _Kept(scalars, jnp.zeros((max_steps, size), dtype), scalars)
        # the same signs for all clients and rounds: results depend on nothing but the deltas
        flips = draw_flips(jax.random.key(0, impl="threefry2x32"), length)
        return _Sketched(empty(kept), flips)

    def begin(params: PyTree, state: _Sketched, given: Given | None = None) -> _Sums:
        numbers = own if given is None else given.hyperparameters
        kept: _Kept = state.steps.rows
        mask = state.steps.mask

        def plan_of_first(steps: int) -> Plan:
            unit, square = kept.unit[:steps], kept.square[:steps]
            same = jnp.eye(steps, dtype=bool)
            products = jnp.where(same, square[:, None], gram(kept.sketch, unit.dtype, steps))
            return plan_of(products, unit, mask[:steps], rule=rule, **numbers)

        plan = plan_in_room(plan_of_first, mask)
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _Sums(plan, zeros, zeros, jnp.zeros((), jnp.int32))

    return Regulator("ecgr", own, init, _update, _finalize, Replay(begin, _add))


def _update(delta: PyTree, state: _Sketched, active: Array | bool = True) -> _Sketched:
    kept: _Kept = state.steps.rows
    size, dtype = kept.sketch.shape[1], kept.unit.dtype
    leaves = [leaf.astype(dtype).ravel() for leaf in jax.tree.leaves(delta)]
    unit = unit_of(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]).max())
    sketched, square, first = jnp.zeros(size, dtype), jnp.zeros((), dtype), 0
    for leaf in leaves:
        over = leaf / unit
        flips = state.flips[first : first + leaf.size]
        sketched, square = sketched + sketch(flips, size, over, first), square + over @ over
        first += leaf.size
    return state._replace(steps=store(state.steps, _Kept(unit, sketched, square), active))


def _add(delta: PyTree, state: _Sums, active: Array | bool = True) -> _Sums:
    # the second pass has the first's units, so that a sum fits wherever its parts do
    step = jax.tree.map(lambda d: jnp.where(active, d / state.plan.unit, 0), delta)
    weight = state.plan.weights[state.num_steps]
    return state._replace(
        total=jax.tree.map(jnp.add, state.total, step),
        blended=jax.tree.map(lambda sum_, d: sum_ + weight * d, state.blended, step),
        num_steps=state.num_steps + jnp.asarray(active, jnp.int32),
    )


def _finalize(state: _Sums, total: PyTree, given: Given | None = None) -> tuple[PyTree, ECGRInfo]:
    del given, total  # summed in units that cannot overflow
    lengths = measured(state.total, state.blended)
    total = jax.tree.map(lambda t: t * state.plan.unit, state.total)
    return rescaled(state.plan, total, state.blended, lengths)
