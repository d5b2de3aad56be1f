"""The command that runs a study: many runs, from one file, in one process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import typer
from rich.markup import escape

from fedjax_ecgr import sweeps
from fedjax_ecgr.check import InputError
from fedjax_ecgr.devices import check_devices, use_all_cores
from fedjax_ecgr.endings import ended
from fedjax_ecgr.engine.memory import gib
from fedjax_ecgr.live import duration, live
from fedjax_ecgr.options import track_option
from fedjax_ecgr.sweeps.tracked import to_trackers
from fedjax_ecgr.trackers import Trackers, chosen


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the study, in TOML")],
    out: Annotated[
        Path | None,
        typer.Option(
            help=escape(
                "a new folder, or one to go on with [default: runs/<name of the file>, of a share "
                "runs/<name>-i-of-n]"
            )
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would be run, and in what memory")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help=f"run more than {sweeps.MANY:,} members")
    ] = False,
    members_at_once: Annotated[
        int | None,
        typer.Option(
            help=escape("members that run at once on a device [default: 1 on a CPU, else 64]")
        ),
    ] = None,
    num_devices: Annotated[
        int | None, typer.Option(help=escape("devices that members are spread over [default: all]"))
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="run only share i of n, 1 for the first; each has a folder of its own",
            metavar="I/N",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="run on a Ray cluster: its address, auto for this machine's, or local for one of "
            "this machine alone",
            metavar="ADDRESS",
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(
            help=escape("tasks that Ray divides the members among [default: one a machine]")
        ),
    ] = None,
    track: Annotated[str | None, track_option()] = None,
) -> int:
    """Runs all members of a study that are not recorded yet, as few programs, in one folder.

    The same command goes on with what was stopped or killed, and runs what a file has gained.
    On a CPU a member runs on each core. What a study may say is in docs/guide/sweeps.md.
    How to use many machines is in docs/guide/clusters.md.
    """
    part = None if shard is None else _shard(shard)
    _check_together(ray, {"--shard": shard, "--dry-run": dry_run, "--track": track}, tasks)
    study = sweeps.read(file)
    if study.size > sweeps.MANY and not yes:
        raise InputError(f"{file}: {study.size:,} members are not run without --yes")
    trackers = chosen(track)
    layout: dict[str, Any] = {"members_at_once": members_at_once, "num_devices": num_devices}
    if ray is None:
        use_all_cores()
        check_devices()
        layout |= {"shard": part}
    folder = out or Path("runs") / (file.stem + ("-{}-of-{}".format(*part) if part else ""))
    try:
        if dry_run:
            return _foretell(study, layout)
        if ray is not None:
            return _conduct_on_ray(study, folder, {"address": ray, "tasks": tasks, **layout})
        return run_study(study, folder, layout, trackers)
    except InputError as error:
        told = str(error)
        own = told.startswith(("out:", "shard:", "ray:", "tasks:"))
        raise InputError(told if own else f"{file}: {told}") from None


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
                on_recorded=None if trackers is None else to_trackers(trackers, folder),
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


def _shard(text: str) -> sweeps.Shard:
    """Returns what `i/n` says."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise InputError(f"shard: {text!r} is not allowed, it must be i/n, such as 1/8")
    return int(number), int(count)


def _check_together(ray: str | None, others: dict[str, Any], tasks: int | None) -> None:
    """Raises `InputError` for options of which one rules out the other."""
    if ray is None and tasks is not None:
        raise InputError(f"tasks: {tasks} is not allowed without --ray")
    for name, given in others.items():
        if ray is not None and given:
            raise InputError(f"ray: {ray!r} is not allowed with {name}")


def _conduct_on_ray(study: sweeps.Study, folder: Path, options: dict[str, Any]) -> int:
    jax.config.update("jax_platforms", "cpu")  # accelerators are for those who compute
    try:
        with live(1) as show:
            sweeps.conduct_on_ray(
                study,
                folder,
                **options,
                on_progress=lambda p: show(
                    p.members / p.of_members,
                    f"{p.members}/{p.of_members} members",
                    f"{p.of_tasks - p.tasks}/{p.of_tasks} tasks done",
                ),
                on_change=lambda changes: print(f"since it was begun: {'; '.join(changes)}"),
            )
    except KeyboardInterrupt as signal:
        return ended(signal, f"the same command goes on with {folder}")
    print(f"sweep folder: {folder}")
    return 0
