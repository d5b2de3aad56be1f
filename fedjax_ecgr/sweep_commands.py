"""The command that runs a study: many runs, from one file, in one process."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import typer

from fedjax_ecgr import sweeps
from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine.memory import gib
from fedjax_ecgr.live import duration, live
from fedjax_ecgr.options import track_option
from fedjax_ecgr.sweeps.tracked import to_trackers
from fedjax_ecgr.trackers import Trackers, chosen


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the study, in TOML")],
    out: Annotated[
        Path | None,
        typer.Option(help="a new folder, or one to go on with [default: runs/<name of the file>]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would be run, and in what memory")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help=f"run more than {sweeps.MANY:,} members")
    ] = False,
    members_at_once: Annotated[
        int | None,
        typer.Option(help="members that run at once on a device [default: 1 on a CPU, else 64]"),
    ] = None,
    num_devices: Annotated[
        int | None, typer.Option(help="devices that members are spread over [default: all]")
    ] = None,
    track: Annotated[str | None, track_option()] = None,
) -> int:
    """Runs all members of a study that are not recorded yet, as few programs, in one folder.

    The same command goes on with what was stopped or killed, and runs what a file has gained.
    On a CPU a member runs on each core. What a study may say is in docs/guide/sweeps.md.
    """
    study = sweeps.read(file)
    if study.size > sweeps.MANY and not yes:
        raise InputError(f"{file}: {study.size:,} members are not run without --yes")
    trackers = chosen(track)
    use_all_cores()
    layout = {"members_at_once": members_at_once, "num_devices": num_devices}
    try:
        if dry_run:
            return _foretell(study, layout)
        return run_study(study, out or Path("runs") / file.stem, layout, trackers)
    except InputError as error:
        told = str(error)
        raise InputError(told if told.startswith("out:") else f"{file}: {told}") from None


def use_all_cores() -> None:
    """Makes a device of each core, where JAX has not begun and nobody has said otherwise."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        try:
            jax.config.update("jax_num_cpu_devices", cores or 1)
        except RuntimeError:  # it has begun
            return


def _foretell(study: sweeps.Study, layout: dict[str, Any]) -> int:
    found = sweeps.plan(study, **layout)
    differ = ", ".join(found.asked.axes) or "nothing"
    print(f"{len(found.members)} members in {len(found.groups)} group(s), which differ in {differ}")
    for number, group in enumerate(found.groups, start=1):
        config = found.config(group)
        ready = sweeps.compiled(found, group)
        print(
            f"group {number}: {len(group.members)} members of {config.rounds} rounds of "
            f"{config.method}; {group.layout}; compiled in {duration(ready.seconds)}, "
            f"{gib(ready.memory)} on each device"
        )
    return 0


def run_study(
    study: sweeps.Study,
    folder: Path,
    layout: Mapping[str, Any] = {},
    trackers: Trackers | None = None,
) -> int:
    """Runs what is not recorded yet of a study, shows how far it is, and says what came of it."""
    last: sweeps.Progress | None = None
    with live(1) as show:

        def told(progress: sweeps.Progress) -> None:
            nonlocal last
            last = progress
            show(*_shown(progress))

        sweeps.conduct(
            study,
            folder,
            **layout,
            on_progress=told,
            on_change=lambda changes: print(f"since it was begun: {'; '.join(changes)}"),
            on_recorded=None if trackers is None else to_trackers(trackers, folder),
        )
    if last is None:
        print("all members are recorded already")
    else:
        spent = f"compiled in {duration(last.compile_seconds)}, run in {duration(last.run_seconds)}"
        print(f"{last.members} members: {spent}")
        if last.diverged:
            print(f"{last.diverged} of them diverged")
    print(f"sweep folder: {folder}")
    return 0


def _shown(p: sweeps.Progress) -> tuple[float, str, str]:
    """Returns what is done of 1, what is going on, and how."""
    what = f"group {p.group + 1}/{p.groups}, {p.members}/{p.of_members} members"
    if p.standing is None or not p.run_seconds:
        return p.rounds / max(p.of_rounds, 1), what, "compiling" if not p.memory else ""
    speed = p.rounds / p.run_seconds
    compiling = p.compile_seconds / (p.group + 1) * (p.groups - p.group - 1)
    left = duration((p.of_rounds - p.rounds) / speed + compiling)
    how = f"accuracy {100 * p.accuracy:.2f} %  {speed:.1f} rounds/s  {left} left"
    return p.rounds / p.of_rounds, what, how
