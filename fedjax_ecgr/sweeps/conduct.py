"""A study from the first group to the last: compiled, run, saved, recorded, and gone on with."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fedjax_ecgr.engine.groups import Group, Member, grouped
from fedjax_ecgr.engine.hosts import refuse_several
from fedjax_ecgr.engine.run import COLUMNS
from fedjax_ecgr.engine.waves import (
    Compiled,
    Outcome,
    Standing,
    compile_group,
    outcomes_of,
    run_wave,
    start_wave,
)
from fedjax_ecgr.process import deferred, terminable
from fedjax_ecgr.runs.checkpoints import Checkpoints
from fedjax_ecgr.runs.config import RunConfig
from fedjax_ecgr.sweeps.members import build
from fedjax_ecgr.sweeps.shares import Shard, share
from fedjax_ecgr.sweeps.store import Store, joined, opened
from fedjax_ecgr.sweeps.study import Members, Study, members_of


class Plan(NamedTuple):
    """What is to be run of a study, by program.

    Attributes:
      asked: the study's members.
      members: the same as the engine takes them.
      groups: those that have something to be run.
      left: the waves of each that are not recorded yet.
    """

    asked: Members
    members: list[Member]
    groups: list[Group]
    left: list[list[tuple[int, ...]]]

    def config(self, group: Group) -> RunConfig:
        """Returns what a group's members run, the options apart in which they differ."""
        return list(self.asked.configs.values())[group.members[0]]

    @property
    def rounds(self) -> int:
        """All members' rounds that are left to be run."""
        return sum(
            self.config(group).rounds * len(wave)
            for group, waves in zip(self.groups, self.left, strict=True)
            for wave in waves
        )


class Progress(NamedTuple):
    """What a caller is told whenever something is compiled, or a block of rounds done.

    Attributes:
      group: which group, 0 for the first …
      groups: … of so many.
      members: members that came to their end, of those there are to be run …
      of_members: … so many.
      rounds: rounds done in this process, of all members …
      of_rounds: … so many that are left to it.
      compile_seconds: what compilation took so far.
      run_seconds: what running took so far.
      accuracy: mean test accuracy at their last evaluation of the members at hand that did not
        diverge; NaN before.
      diverged: members that diverged.
      memory: bytes in use on each device by the group's program; 0 before it is compiled.
      standing: where the wave at hand stands; None right after compilation.
    """

    group: int
    groups: int
    members: int
    of_members: int
    rounds: int
    of_rounds: int
    compile_seconds: float
    run_seconds: float
    accuracy: float
    diverged: int
    memory: int
    standing: Standing | None


def plan(
    study: Study,
    *,
    shard: Shard | None = None,
    members_at_once: int | None = None,
    num_devices: int | None = None,
) -> Plan:
    """Returns what is to be run of a study that nothing is recorded of; nothing is compiled.

    Args:
      study: what is asked for.
      shard: `(i, n)`, to run only share i of n, 1 for the first; see `fedjax_ecgr.sweeps.shares`.
      members_at_once: see `fedjax_ecgr.run_members`.
      num_devices: likewise.

    Raises:
      InputError: if anything is out of range or does not fit together.
    """
    asked = members_of(study)
    if shard is not None:
        asked = share(asked, shard)
    everything = Plan(asked, build(asked.configs, asked.axes), [], [])
    return left_of(everything, (), members_at_once=members_at_once, num_devices=num_devices)


def left_of(
    found: Plan, recorded: Sequence[str], *, members_at_once: int | None, num_devices: int | None
) -> Plan:
    """Returns a plan of what is left of its members.

    They keep their waves when others are recorded already, so that a sweep that goes on computes
    what it would have. Where waves do not fit what is recorded, as the study has changed, those
    that are left form waves of their own.

    Args:
      found: all members.
      recorded: those that are recorded already.
      members_at_once: see `fedjax_ecgr.run_members`.
      num_devices: likewise.
    """
    asked, members = found.asked, found.members
    names, done = list(asked.configs), set(recorded)
    layout: dict[str, Any] = {"members_at_once": members_at_once, "num_devices": num_devices}
    groups = grouped(members, **layout)
    waves = [wave for group in groups for wave in group.waves]
    if any(0 < sum(names[n] in done for n in wave) < len(wave) for wave in waves):
        left = [n for n, name in enumerate(names) if name not in done]
        groups = [
            group._replace(members=tuple(left[n] for n in group.members))
            for group in grouped([members[n] for n in left], **layout)
        ]
    open_waves = [[wave for wave in group.waves if names[wave[0]] not in done] for group in groups]
    some = [i for i, waves in enumerate(open_waves) if waves]
    return Plan(asked, members, [groups[i] for i in some], [open_waves[i] for i in some])


def compiled(plan: Plan, group: Group) -> Compiled:
    """Compiles a group's program, at the precision that it asks for."""
    config = plan.config(group)
    with _precision(plan, group):
        return compile_group(group, plan.members, min(config.eval_every, config.rounds))


def _precision(plan: Plan, group: Group) -> AbstractContextManager[None]:
    """Returns the precision of a group's programs, of which one starts its waves."""
    return jax.default_matmul_precision(plan.config(group).precision)


def conduct(
    study: Study,
    folder: Path,
    *,
    shard: Shard | None = None,
    members_at_once: int | None = None,
    num_devices: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_change: Callable[[list[str]], None] | None = None,
    on_recorded: Callable[[Members, Mapping[str, Outcome]], None] | None = None,
) -> None:
    """Runs what is not recorded yet of a study, and records it in a folder.

    Args:
      study: what is asked for.
      folder: a new one, or that of a sweep, which is gone on with.
      shard: `(i, n)`, to run only share i of n, 1 for the first: each in a folder of its own.
      members_at_once: members that run at once on each device; by default one on a CPU.
      num_devices: devices that members are spread over; all by default.
      on_progress: called after each compilation and each block of rounds.
      on_change: called with what is different from when the sweep was begun: code, versions,
        device. Members that were under way go on all the same.
      on_recorded: called with the study's members, and what came of those just recorded.

    Raises:
      InputError: if anything is out of range, the folder is no sweep's or another process's, or
        this is one of several processes that run one program.
      KeyboardInterrupt: if a signal asks for an end; the members under way are saved first.
      OSError: if something cannot be written; it names the file.
    """
    refuse_several("sweep")
    layout: dict[str, Any] = {"members_at_once": members_at_once, "num_devices": num_devices}
    found = plan(study, shard=shard, **layout)
    with terminable(), opened(folder, study, found.asked) as (store, changes):
        if changes and store.ended and on_change is not None:
            on_change(changes)

        def recorded(asked: Members, outcomes: Mapping[str, Outcome]) -> None:
            store.refresh()
            if on_recorded is not None:
                on_recorded(asked, outcomes)

        try:
            _record(found, store, layout, on_progress, recorded)
        finally:
            store.tables()


def take_part(
    study: Study,
    folder: Path,
    shard: Shard,
    *,
    members_at_once: int | None = None,
    num_devices: int | None = None,
) -> list[str]:
    """Runs a share of a study in a folder where other processes run the others.

    The process that has opened the folder makes the tables. Where another one runs the same share,
    this one waits for its end.

    Args:
      study: what is asked for.
      folder: that of the sweep.
      shard: `(i, n)`: share i of n, 1 for the first.
      members_at_once: see `conduct`.
      num_devices: likewise.

    Returns:
      The names of the share's members, which are all recorded now.

    Raises:
      InputError: as for `conduct`, or if the folder is not there.
      KeyboardInterrupt: as for `conduct`.
      OSError: likewise.
    """
    layout: dict[str, Any] = {"members_at_once": members_at_once, "num_devices": num_devices}
    found = plan(study, shard=shard, **layout)
    with terminable(), joined(folder, found.asked, "{}-of-{}".format(*shard)) as store:
        _record(found, store, layout)
    return list(found.asked.configs)


def _record(
    found: Plan,
    store: Store,
    layout: Mapping[str, Any],
    on_progress: Callable[[Progress], None] | None = None,
    on_recorded: Callable[[Members, Mapping[str, Outcome]], None] | None = None,
) -> None:
    checkpoints = Checkpoints(store.checkpoints)
    checkpoints.remove_unfinished()
    try:
        left = left_of(found, list(store.ended), **layout)
        _run(left, store, checkpoints, on_progress, on_recorded)
    finally:
        checkpoints.close()


def _run(
    found: Plan,
    store: Store,
    checkpoints: Checkpoints,
    on_progress: Callable[[Progress], None] | None,
    on_recorded: Callable[[Members, Mapping[str, Outcome]], None] | None,
) -> None:
    names = list(found.asked.configs)
    total = sum(len(wave) for waves in found.left for wave in waves)
    told = Progress(0, len(found.groups), 0, total, 0, found.rounds, 0, 0, float("nan"), 0, 0, None)

    def tell(**changed: Any) -> None:
        nonlocal told
        told = told._replace(**changed)
        if on_progress is not None:
            on_progress(told)

    for number, (group, waves) in enumerate(zip(found.groups, found.left, strict=True)):
        tell(group=number, standing=None, memory=0)
        ready, rounds = compiled(found, group), found.config(group).rounds
        tell(compile_seconds=told.compile_seconds + ready.seconds, memory=ready.memory)
        for wave in waves:
            began, name = time.perf_counter(), _name(found, group, wave)
            standing = start = _resumed(checkpoints, name, found, group, wave)
            begun = 0 if start is None else start.done
            before = told._replace(of_rounds=told.of_rounds - len(wave) * begun)
            with deferred() as ending, _precision(found, group):
                for standing in run_wave(group, ready, found.members, wave, rounds, start):
                    tell(
                        rounds=before.rounds + len(wave) * (standing.done - begun),
                        of_rounds=before.of_rounds,
                        run_seconds=before.run_seconds + time.perf_counter() - began,
                        accuracy=_accuracy(standing, len(wave)),
                        diverged=before.diverged + int((standing.stopped > 0).sum()),
                        standing=standing,
                    )
                    if standing.done < rounds:
                        if ending.asked or checkpoints.due:
                            checkpoints.save(name, standing.done, standing[1:])
                        ending.raise_if_asked()
                assert standing is not None
                share = (time.perf_counter() - began) / len(wave)
                outcomes = outcomes_of(standing, len(wave), ready.seconds, share)
                ended = {names[n]: one for n, one in zip(wave, outcomes, strict=True)}
                store.add(ended)
                if on_recorded is not None:
                    on_recorded(found.asked, ended)
            checkpoints.drop(name)
            tell(members=before.members + len(wave), standing=None)
            ending.raise_if_asked()
    checkpoints.clear()


def _name(found: Plan, group: Group, wave: tuple[int, ...]) -> str:
    """Returns what a wave's checkpoints are called: members and layout decide on the numbers."""
    names = list(found.asked.configs)
    at = group.layout
    layout = at.at_once, at.in_turn, at.num_devices, at.for_clients
    told = repr(([names[n] for n in group.members], [names[n] for n in wave], layout))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _resumed(
    checkpoints: Checkpoints, name: str, found: Plan, group: Group, wave: tuple[int, ...]
) -> Standing | None:
    """Returns where a wave stood when it was saved last; None for one that never was."""
    if not checkpoints.has(name):
        return None
    with _precision(found, group):
        start = start_wave(group, found.members, wave, found.config(group).rounds)
    saved = checkpoints.latest(name, start[1:])
    if saved is None:
        return None
    stood = Standing(saved[0], *saved[1])
    # a pytree's dicts come back in the order of their names
    return stood._replace(table={name: stood.table[name] for name in COLUMNS})


def _accuracy(standing: Standing, count: int) -> float:
    """Returns the mean accuracy after the last block of the members that did not diverge."""
    accuracy = standing.table["test_accuracy"][:count, standing.done - 1]
    sound = accuracy[standing.stopped[:count] == 0]
    return float(sound.mean()) if len(sound) else float("nan")
