"""The command that runs a study: many runs, from one file, in one process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fedjax_ecgr import sweeps
from fedjax_ecgr.check import InputError
from fedjax_ecgr.devices import check_devices, use_all_cores
from fedjax_ecgr.endings import ended
from fedjax_ecgr.engine.memory import gib
from fedjax_ecgr.live import duration, live


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
) -> int:
    """Runs all members of a study that are not recorded yet, as few programs, in one folder.

    The same command goes on with what was stopped or killed, and runs what a file has gained.
    On a CPU a member runs on each core. What a study may say is in docs/guide/sweeps.md.
    """
    study = sweeps.read(file)
    if study.size > sweeps.MANY and not yes:
        raise InputError(f"{file}: {study.size:,} members are not run without --yes")
    use_all_cores()
    check_devices()
    layout = {"members_at_once": members_at_once, "num_devices": num_devices}
    try:
        if dry_run:
            return _foretell(study, layout)
        return run_study(study, out or Path("runs") / file.stem, layout)
    except InputError as error:
        told = str(error)
        raise InputError(told if told.startswith("out:") else f"{file}: {told}") from None


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


def run_study(study: sweeps.Study, folder: Path, layout: Mapping[str, Any] = {}) -> int:
    """Runs what is not recorded yet of a study, shows how far it is, and says what came of it."""
    last: sweeps.Progress | None = None
    try:
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
            )
    except KeyboardInterrupt as signal:
        where = "" if last is None else f" after {last.members} of {last.of_members} members"
        return ended(signal, f"the same command goes on with {folder}", where)
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
