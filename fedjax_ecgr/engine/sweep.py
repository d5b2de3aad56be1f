"""A sweep: members that differ in seeds, numbers and data, run by one compiled program.

Members whose simulations are of one setting (`Simulation.with_data`) are a group, whatever their
seeds, their hyperparameters and who holds which examples. A group's program has a member axis:

- on a CPU each device, which is a core, runs its share of the members one after another;
- on an accelerator a device runs all of its share at once, with `jax.vmap`;
- several devices share the axis with `jax.shard_map`, and nothing is sent between them; only where
  there are more of them than members do some share the clients of a member.

A group runs in waves of members, all through
the same program, so that memory does not grow with their number.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fedjax_ecgr import check, metrics
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine import hosts, memory
from fedjax_ecgr.engine.block import run_block
from fedjax_ecgr.engine.evaluation import Evaluation, judge
from fedjax_ecgr.engine.placement import AXIS as CLIENTS
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.engine.program import Inputs, Simulation, as_stored
from fedjax_ecgr.engine.round import RoundInfo
from fedjax_ecgr.engine.run import (
    MAX_SEED,
    DivergedError,
    History,
    Table,
    check_schedule,
    no_rows,
    not_finite,
    rows_of,
)
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.engine.state import State
from fedjax_ecgr.types import Array, PyTree

AXIS = "members"
_AT_ONCE = "at_once"
_A_DEVICE = 64  # members of a wave on each device, at most
_WASTE = 0.2  # of the work that members at once may do in vain, for the longest of them


class Member(NamedTuple):
    """One simulation of a sweep.

    Attributes:
      simulation: what is run, see `Simulation.with_data` for members that share a program.
      seed: of everything random in it.
      hyperparameters: in place of the simulation's own.
    """

    simulation: Simulation
    seed: int = 0
    hyperparameters: Mapping[str, Any] | None = None

    @property
    def numbers(self) -> Mapping[str, Any]:
        """The hyperparameters that count."""
        given = self.hyperparameters
        return self.simulation.hyperparameters if given is None else given


class Layout(NamedTuple):
    """How the members of a wave meet the hardware; static.

    Attributes:
      at_once: members that a device runs at once; 1 for one after another.
      in_turn: how many times as many it runs in a wave.
      mesh: the devices, members by clients, or None for the default device alone.
    """

    at_once: int
    in_turn: int
    mesh: Mesh | None = None

    @property
    def num_devices(self) -> int:
        """Number of devices members are spread over."""
        return 1 if self.mesh is None else self.mesh.shape[AXIS]

    @property
    def for_clients(self) -> int:
        """Number of devices that each member's clients are spread over."""
        return 1 if self.mesh is None else self.mesh.shape[CLIENTS]

    @property
    def wave(self) -> int:
        """Number of members in a wave."""
        return self.at_once * self.in_turn * self.num_devices

    def __str__(self) -> str:
        inner = f"{self.at_once} members at once" if self.at_once > 1 else "one member at a time"
        where = f"on each of {self.num_devices} devices" if self.mesh else "on one device"
        if self.for_clients > 1:
            where = f"on each of {self.num_devices} × {self.for_clients} devices"
        return f"{inner} {where}, {self.wave} in a wave"


class Group(NamedTuple):
    """Members that one program runs.

    Attributes:
      members: their numbers in the sweep.
      layout: of the members of a wave.
      room: for a client's training examples, and for its test examples.
    """

    members: tuple[int, ...]
    layout: Layout
    room: tuple[int, int]

    @property
    def waves(self) -> list[tuple[int, ...]]:
        """The members of each wave; of the last one, what is left."""
        step = self.layout.wave
        return [self.members[i : i + step] for i in range(0, len(self.members), step)]


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


class SweepProgress(NamedTuple):
    """What a caller is told after each block of a wave.

    Attributes:
      members: the wave's members, by their numbers in the sweep.
      standing: where they stand; its states are gone when the next block begins.
      rounds: rounds that all members have done so far.
      total: rounds of all members together.
      compile_seconds: what compilation took so far.
      run_seconds: what running took so far.
    """

    members: tuple[int, ...]
    standing: Standing
    rounds: int
    total: int
    compile_seconds: float
    run_seconds: float


def run_members(
    members: Sequence[Member],
    *,
    rounds: int,
    eval_every: int = 1,
    members_at_once: int | None = None,
    num_devices: int | None = None,
    on_progress: Callable[[SweepProgress], None] | None = None,
) -> list[Outcome]:
    """Runs all members, those of one setting by one program; one that diverges stops alone.

    Args:
      members: the simulations.
      rounds: how many rounds.
      eval_every: rounds from one evaluation to the next; the last round is always evaluated.
      members_at_once: on each device; by default 1 on a CPU, else as many as there are, up to 64.
      num_devices: how many devices members are spread over; all by default.
      on_progress: called after each block of a wave.

    Returns:
      An outcome for each member, in their order.

    Raises:
      InputError: if anything is out of range; nothing is compiled then.
    """
    check.count("rounds", rounds)
    check.count("eval_every", eval_every)
    groups = grouped(members, members_at_once=members_at_once, num_devices=num_devices)
    check_members(members, rounds)
    found: dict[int, Outcome] = {}
    done, compiling, running = 0, 0.0, 0.0
    for group in groups:
        compiled = compile_group(group, members, min(eval_every, rounds))
        compiling += compiled.seconds
        for wave in group.waves:
            began = time.perf_counter()
            for standing in run_wave(group, compiled, members, wave, rounds):
                seconds = running + time.perf_counter() - began
                if on_progress is not None:
                    so_far = done + len(wave) * standing.done
                    total = rounds * len(members)
                    told = SweepProgress(wave, standing, so_far, total, compiling, seconds)
                    on_progress(told)
            spent = time.perf_counter() - began
            done, running = done + len(wave) * rounds, running + spent
            share = spent / len(wave)
            outcomes = outcomes_of(standing, len(wave), compiled.seconds, share)
            found |= zip(wave, outcomes, strict=True)
    return [found[number] for number in range(len(members))]


def check_members(members: Sequence[Member], rounds: int) -> None:
    """Raises `InputError` for the first member that cannot be run."""
    for number, member in enumerate(members):
        try:
            check_member(member, rounds)
        except check.InputError as error:
            raise check.InputError(f"member {number}: {error}") from None


def check_member(member: Member, rounds: int) -> None:
    """Raises `InputError` for a member that cannot be run."""
    check.count("seed", member.seed, low=0, high=MAX_SEED)
    member.simulation.check(jax.random.key(member.seed), member.numbers)
    check_schedule(member.simulation.setting.work.algorithm, rounds)


def grouped(
    members: Sequence[Member],
    *,
    members_at_once: int | None = None,
    num_devices: int | None = None,
) -> list[Group]:
    """Returns the members by the programs that run them; nothing is compiled.

    Where members run at once they wait for the one whose largest client has most to do, so those of
    a setting are divided further where more than a fifth of all work would be waiting.

    Raises:
      InputError: if something else is among them, there is none, or a number is out of range.
    """
    check.part("members", members, Sequence, "a list of Members")
    if not members:
        raise check.InputError("members: none is not allowed, there must be one")
    for member in members:
        check.part("members", member, Member, "a list of Members, such as Member(simulation, 0)")
        check.part("simulation", member.simulation, Simulation, "what simulation(…) returns")
    if members_at_once is not None:
        check.count("members_at_once", members_at_once)
    devices, alone = hosts.devices_asked(num_devices), jax.process_count() == 1
    at_once = members_at_once or (1 if jax.default_backend() == "cpu" else _A_DEVICE)
    alike: dict[Any, list[int]] = {}
    for number, member in enumerate(members):
        alike.setdefault(_kind(member), []).append(number)
    groups = []
    for numbers in alike.values():
        rooms = {n: _room(members[n].simulation.inputs) for n in numbers}
        widths = {n: room[0] for n, room in rooms.items()}
        for some in [numbers] if at_once == 1 else _of_like_width(widths):
            cohort = members[some[0]].simulation.setting.cohort_size
            layout = _layout(len(some), cohort, at_once, devices, alone=alone)
            train, test = (max(rooms[n][i] for n in some) for i in (0, 1))
            groups.append(Group(tuple(some), layout, (train, test)))
    return groups


def _layout(count: int, cohort: int, at_once: int, available: int, *, alone: bool) -> Layout:
    """Returns the layout of a group's waves, evened out: 65 members of 64 at once are 33 and 32.

    Where there are more devices than members, several share the clients of each; but where several
    processes run a program, each of which must have a part in it, some devices do nothing then.
    """
    devices = min(available, count) if alone else available
    for_clients = min(available // devices, cohort)
    share = -(-count // devices)
    turns = -(-share // min(at_once, share))
    waves = -(-turns // max(1, _A_DEVICE // at_once))
    mesh = None
    if devices * for_clients > 1:
        chosen = jax.devices()[: devices * for_clients]
        kinds = (AxisType.Auto, AxisType.Auto)
        mesh = jax.make_mesh((devices, for_clients), (AXIS, CLIENTS), kinds, devices=chosen)
    return Layout(-(-share // turns), -(-turns // waves), mesh)


def _kind(member: Member) -> tuple[Any, ...]:
    """Returns what members that run by one program have in common; hashable."""
    inputs = _with_room(member.simulation.inputs, (0, 0))
    leaves, tree = jax.tree.flatten(inputs)
    shapes = tuple((np.shape(x), np.result_type(x).name) for x in leaves)
    numbers = jax.tree.structure(member.numbers)
    return id(member.simulation.setting), tree, shapes, numbers


def _of_like_width(widths: Mapping[int, int]) -> list[list[int]]:
    """Returns members in as few parts as need be for little waste, and those with the least.

    Members of one width stay together; a part takes as long as its widest for each of its members.
    """
    known = sorted(set(widths.values()))
    count = [sum(w == width for w in widths.values()) for width in known]

    @cache
    def cut(end: int, parts: int) -> tuple[int, tuple[int, ...]]:
        """Returns what the first `end` widths take in so many parts, and where these end."""
        if parts == 1:
            return known[end - 1] * sum(count[:end]), (end,)
        earlier = (cut(start, parts - 1) for start in range(parts - 1, end))
        return min(
            (taken + known[end - 1] * sum(count[ends[-1] : end]), (*ends, end))
            for taken, ends in earlier
        )

    for parts in range(1, len(known) + 1):
        taken, ends = cut(len(known), parts)
        if taken - sum(widths.values()) <= _WASTE * taken:
            break
    starts = (0, *ends[:-1])
    return [
        [n for n, width in widths.items() if width in known[start:end]]
        for start, end in zip(starts, ends, strict=True)
    ]


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
    leaves = jax.tree.leaves(_with_room(inputs[0], group.room))
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
            begun[member.seed] = hosts.fetch(member.simulation.init(jax.random.key(member.seed)))
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

    own: list[Array]
    seed: Array
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
                jax.tree.leaves(_with_room(member.simulation.inputs, group.room)),
                compiled.varies,
                strict=True,
            )
            if own
        ]
        for member in chosen
    ]
    own = [as_stored(np.stack(leaves)) for leaves in zip(*rows, strict=True)]
    seeds = jnp.asarray([member.seed for member in chosen], jnp.uint32)
    numbers = jax.tree.map(
        lambda *values: jnp.asarray(values, float), *(dict(member.numbers) for member in chosen)
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
        key = jax.random.key(slot.seed)
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


def _with_room(inputs: Inputs, room: tuple[int, int]) -> Inputs:
    """Returns inputs with so much room for a client's training and test examples."""

    def resized(data: FederatedDataset, width: int) -> FederatedDataset:
        indices = np.asarray(data.indices)[:, :width]
        missing = width - indices.shape[1]
        return data._replace(indices=np.pad(indices, ((0, 0), (0, missing))))

    data, tests = resized(inputs.data, room[0]), inputs.tests
    if tests is not None and tests.clients is not None:
        tests = tests._replace(clients=resized(tests.clients, room[1]))
    return Inputs(data, tests)


def _room(inputs: Inputs) -> tuple[int, int]:
    """Returns the room for a client's training and test examples."""
    tests = inputs.tests
    own = None if tests is None else tests.clients
    return inputs.data.indices.shape[1], 0 if own is None else own.indices.shape[1]


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
    return hosts.put(jax.tree.map(jnp.asarray, tree), _shardings(layout)[1])
