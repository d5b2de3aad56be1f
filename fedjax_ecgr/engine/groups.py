"""Members of a sweep by the programs that run them, and how these meet the hardware."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from fedjax_ecgr import check
from fedjax_ecgr.engine import hosts, streams
from fedjax_ecgr.engine.placement import AXIS as CLIENTS
from fedjax_ecgr.engine.program import Simulation
from fedjax_ecgr.engine.room import Room, emptied, room_of
from fedjax_ecgr.engine.run import MAX_SEED, check_schedule

AXIS = "members"
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
      room: what the program has room for: of each, the most that a member has.
    """

    members: tuple[int, ...]
    layout: Layout
    room: Room

    @property
    def waves(self) -> list[tuple[int, ...]]:
        """The members of each wave; of the last one, what is left."""
        step = self.layout.wave
        return [self.members[i : i + step] for i in range(0, len(self.members), step)]


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
    member.simulation.check(streams.root(member.seed), member.numbers)
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
        rooms = {n: room_of(members[n].simulation.inputs) for n in numbers}
        widths = {n: room.each for n, room in rooms.items()}
        for some in [numbers] if at_once == 1 else _of_like_width(widths):
            cohort = members[some[0]].simulation.setting.cohort_size
            layout = _layout(len(some), cohort, at_once, devices, alone=alone)
            room = Room(*(max(held) for held in zip(*(rooms[n] for n in some), strict=True)))
            groups.append(Group(tuple(some), layout, room))
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
    inputs = emptied(member.simulation.inputs)
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
