"""Waves of members: compiled, run block by block, from the start or from where they stood."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_ecgr import metrics
from fedjax_ecgr.engine import hosts, memory, streams
from fedjax_ecgr.engine.block import run_block
from fedjax_ecgr.engine.evaluation import Evaluation, judge
from fedjax_ecgr.engine.groups import AXIS, Group, Layout, Member
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.engine.program import Inputs
from fedjax_ecgr.engine.room import with_room
from fedjax_ecgr.engine.round import RoundInfo
from fedjax_ecgr.engine.run import (
    DivergedError,
    History,
    Table,
    no_rows,
    not_finite,
    rows_of,
)
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.engine.state import State
from fedjax_ecgr.engine.stored import as_stored, narrowed
from fedjax_ecgr.types import AnyArray, Array, PyTree

_AT_ONCE = "at_once"


class Compiled(NamedTuple):
    """A group's program.

    Attributes:
      program: `(shared, states, slots, counts) -> (states, infos, evaluations)`, see `_program`.
      shared: the leaves of the inputs that all members have in common, on the devices.
      varies: of each leaf of the inputs, whether each member has its own.
      length: rounds from one evaluation to the next.
      seconds: what compilation took.
      memory: bytes in use on each device while it runs, by XLA's own account.
    """

    program: Any
    shared: list[Array]
    varies: tuple[bool, ...]
    length: int
    seconds: float
    memory: int


class Standing(NamedTuple):
    """Where the members of a wave stand: a pytree of fixed shapes, all that a checkpoint needs.

    Attributes:
      done: rounds done.
      states: their states, [wave] leaves on the devices.
      stopped: [wave] int32, the round in which a member diverged, 0 for one that did not, −1 where
        there is no member.
      blamed: [wave, cohort] bool, the clients of that round with which it did.
      table: the columns of `History.table`, [wave, rounds]; filled in place, up to `done`.
      cohorts: [wave, rounds, cohort] int32, likewise.
    """

    done: int
    states: State
    stopped: np.ndarray
    blamed: np.ndarray
    table: Table
    cohorts: np.ndarray


class Outcome(NamedTuple):
    """What came of one member.

    Attributes:
      history: all its rounds, those before it diverged where it did; the state is on the host.
      diverged: where, and with whom; None for a member that came to its end.
    """

    history: History
    diverged: DivergedError | None


def compile_group(group: Group, members: Sequence[Member], length: int) -> Compiled:
    """Compiles a group's program.

    Args:
      group: from `grouped`.
      members: all of the sweep.
      length: rounds from one evaluation to the next.
    """
    began = time.perf_counter()
    made, arguments = program_of(group, members, length)
    compiled = made.program.lower(*arguments).compile()
    _, states, slots, _ = arguments
    split = metrics.message_bytes((states, slots)) // group.layout.num_devices
    return made._replace(
        program=compiled,
        seconds=time.perf_counter() - began,
        memory=metrics.message_bytes(made.shared) + split + memory.beyond_arguments(compiled),
    )


def program_of(
    group: Group, members: Sequence[Member], length: int
) -> tuple[Compiled, tuple[Any, ...]]:
    """Returns a group's program before it is compiled, and arguments to compile it for.

    Args:
      group: from `grouped`.
      members: all of the sweep.
      length: rounds from one evaluation to the next.
    """
    setting = members[group.members[0]].simulation.setting
    inputs = [members[n].simulation.inputs for n in group.members]
    columns = list(zip(*map(jax.tree.leaves, inputs), strict=True))
    varies = tuple(not all(_same(leaf, column[0]) for leaf in column) for column in columns)
    leaves = jax.tree.leaves(with_room(inputs[0], group.room))
    everywhere, _ = _shardings(group.layout)
    shared = [as_stored(leaf) for leaf, own in zip(leaves, varies, strict=True) if not own]
    shared = hosts.put(shared, everywhere)
    inputs_of = partial(_inputs_of, jax.tree.structure(inputs[0]), varies)
    program = _program(setting, group.layout, inputs_of, length)
    made = Compiled(program, shared, varies, length, 0.0, 0)
    standing = start_wave(group, members, group.waves[0], length)
    slots = _slots(group, made, members, group.waves[0])
    counts = _split(group.layout, np.zeros(group.layout.wave, np.int32))
    return made, (shared, standing.states, slots, counts)


def run_wave(
    group: Group,
    compiled: Compiled,
    members: Sequence[Member],
    wave: tuple[int, ...],
    rounds: int,
    standing: Standing | None = None,
) -> Iterator[Standing]:
    """Runs a wave block by block, from the start or from where it stood; yields where it stands.

    Args:
      group: from `grouped`.
      compiled: its program.
      members: all of the sweep.
      wave: one of the group's waves.
      rounds: how many rounds.
      standing: where it stood, for a wave that was begun; its states may be on the host.
    """
    slots = _slots(group, compiled, members, wave)
    setting = members[wave[0]].simulation.setting
    if standing is None:
        standing = start_wave(group, members, wave, rounds)
    while standing.done < rounds:
        count = min(compiled.length, rounds - standing.done)
        counts = _split(group.layout, np.where(standing.stopped == 0, count, 0).astype(np.int32))
        states = _split(group.layout, standing.states)
        states, infos, evaluation = compiled.program(compiled.shared, states, slots, counts)
        infos, evaluation = hosts.fetch((infos, evaluation))
        infos = jax.tree.map(lambda x, count=count: x[:, :count], infos)
        standing = _add(setting, standing._replace(states=states), infos, evaluation)
        yield standing


def start_wave(
    group: Group, members: Sequence[Member], wave: tuple[int, ...], rounds: int
) -> Standing:
    """Returns where a wave stands before the first round; members of one seed begin alike."""
    begun: dict[Any, State] = {}
    for number in wave:
        member = members[number]
        if member.seed not in begun:
            begun[member.seed] = hosts.fetch(member.simulation.init(streams.root(member.seed)))
    states = [begun[members[number].seed] for number in _filled(group, wave)]
    places, cohort = group.layout.wave, members[wave[0]].simulation.setting.cohort_size
    dtype = jnp.result_type(*jax.tree.leaves(states[0].params))
    return Standing(
        0,
        jax.tree.map(lambda *leaves: np.stack(leaves), *states),
        np.where(np.arange(places) < len(wave), 0, -1).astype(np.int32),
        np.zeros((places, cohort), bool),
        no_rows((places, rounds), dtype),
        np.zeros((places, rounds, cohort), np.int32),
    )


def outcomes_of(
    standing: Standing, count: int, compile_seconds: float, run_seconds: float
) -> list[Outcome]:
    """Returns what came of the first `count` members of a wave that came to its end."""
    states = hosts.fetch(standing.states)
    found = []
    for place in range(count):
        stopped = int(standing.stopped[place])
        kept = stopped - 1 if stopped else standing.done
        history = History(
            {name: column[place, :kept] for name, column in standing.table.items()},
            standing.cohorts[place, :kept],
            jax.tree.map(lambda x, place=place: x[place], states),
            compile_seconds,
            run_seconds,
        )
        diverged = None
        if stopped:
            blamed = standing.cohorts[place, kept][standing.blamed[place]].tolist()
            diverged = DivergedError(stopped, blamed, history)
        found.append(Outcome(history, diverged))
    return found


class _Slot(NamedTuple):
    """What differs from member to member besides their states; [wave] leaves."""

    own: list[AnyArray]
    seed: AnyArray
    numbers: PyTree


def _slots(
    group: Group, compiled: Compiled, members: Sequence[Member], wave: tuple[int, ...]
) -> _Slot:
    """Returns the members' inputs, seeds and numbers, on the devices."""
    chosen = [members[number] for number in _filled(group, wave)]
    rows = [
        [
            leaf
            for leaf, own in zip(
                jax.tree.leaves(with_room(member.simulation.inputs, group.room)),
                compiled.varies,
                strict=True,
            )
            if own
        ]
        for member in chosen
    ]
    # on the host, from where each device takes its own
    own = [narrowed(np.stack(leaves)) for leaves in zip(*rows, strict=True)]
    seeds = np.array([member.seed for member in chosen], np.uint32)
    numbers = jax.tree.map(
        lambda *values: np.array(values, jnp.result_type(float)),
        *(dict(member.numbers) for member in chosen),
    )
    return _split(group.layout, _Slot(own, seeds, numbers))


def _program(
    setting: Setting, layout: Layout, inputs_of: Callable[..., Inputs], length: int
) -> Any:
    """Returns `(shared, states, slots, counts) -> (states, infos, evaluations)`, to be compiled.

    Args:
      setting: what a round does; its placement is cut down to one device.
      layout: of the members.
      inputs_of: `(shared, own) -> Inputs` of one member.
      length: rounds of a block, of which a member does the first `count`.
    """
    clients, at_once = setting.placement, layout.at_once > 1
    chunk, share = clients.chunk_size, -(-setting.cohort_size // layout.for_clients)
    if chunk > 1:  # a device has the clients of several now
        chunk = min(chunk * clients.num_devices, share)
    beside = _AT_ONCE if at_once else None
    setting = setting._replace(placement=Placement(chunk, None, layout.for_clients, beside))

    def one(
        shared: list[Array], state: State, slot: _Slot, count: Array
    ) -> tuple[State, RoundInfo, Evaluation | None]:
        data, tests = inputs_of(shared, slot.own)
        key = streams.root(slot.seed)
        if at_once:  # the same for all, so that they skip what is beyond it together
            count = jax.lax.pmax(count, _AT_ONCE)
        state, infos = run_block(setting, data, state, key, slot.numbers, count, length)
        evaluation = None
        if tests is not None:
            evaluation = judge(setting, data, tests, state, key, slot.numbers)
        return state, infos, evaluation

    def on_one_device(shared: list[Array], *given: PyTree) -> PyTree:
        def chunk_of(given: PyTree) -> PyTree:
            if at_once:
                return jax.vmap(partial(one, shared), axis_name=_AT_ONCE)(*given)
            done = one(shared, *jax.tree.map(lambda x: x[0], given))
            return jax.tree.map(lambda x: x[None], done)

        chunks = jax.tree.map(lambda x: x.reshape(-1, layout.at_once, *x.shape[1:]), given)
        done = jax.lax.map(chunk_of, chunks)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), done)

    if layout.mesh is None:
        return jax.jit(on_one_device, donate_argnums=1)
    split = PartitionSpec(AXIS)
    spread = jax.shard_map(
        on_one_device,
        mesh=layout.mesh,
        in_specs=(PartitionSpec(), split, split, split),
        out_specs=split,
        axis_names={AXIS},
        check_vma=False,
    )
    return jax.jit(spread, donate_argnums=1)


def _inputs_of(
    tree: Any, varies: tuple[bool, ...], shared: Sequence[Any], own: Sequence[Any]
) -> Inputs:
    both = iter(shared), iter(own)
    return jax.tree.unflatten(tree, [next(both[v]) for v in varies])


def _add(
    setting: Setting,
    before: Standing,
    infos: RoundInfo,
    evaluation: Evaluation | None,
) -> Standing:
    """Returns where a wave stands after a block, of which `before` has the states already."""
    wave, count = infos.cohort.shape[:2]
    done = before.done + count
    rows = rows_of(setting, infos, evaluation, first=before.done + 1)
    for name, column in rows.items():
        before.table[name][:, before.done : done] = column
    before.cohorts[:, before.done : done] = infos.cohort
    bad = not_finite(infos)
    now = bad.any(axis=1) & (before.stopped == 0)
    first = bad.argmax(axis=1)
    blamed = ~infos.clients.finite[np.arange(wave), first]
    return Standing(
        done,
        before.states,
        np.where(now, before.done + first + 1, before.stopped).astype(np.int32),
        np.where(now[:, None], blamed, before.blamed),
        before.table,
        before.cohorts,
    )


def _filled(group: Group, wave: tuple[int, ...]) -> list[int]:
    """Returns the members of a wave, the first again in the places that are left."""
    return [*wave, *wave[:1] * (group.layout.wave - len(wave))]


def _same(one: Any, other: Any) -> bool:
    return one is other or (np.shape(one) == np.shape(other) and np.array_equal(one, other))


def _shardings(layout: Layout) -> tuple[Any, Any]:
    """Returns where what all members share goes, and where what each has."""
    if layout.mesh is None:
        return None, None
    mesh = layout.mesh
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))


def _split(layout: Layout, tree: PyTree) -> PyTree:
    """Puts [wave] leaves on the devices that run them."""
    return hosts.put(tree, _shardings(layout)[1])
