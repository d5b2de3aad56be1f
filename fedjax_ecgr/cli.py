"""The command line: arguments in, progress and tables out.

`fedjax-ecgr run` has an option for everything that a factory of a listing takes, derived from its
signature and docstring, so nothing is to be done here for a new algorithm, model or data set.
"""

import datetime
import math
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import rich
import typer
from rich.markup import escape
from rich.table import Table

from fedjax_ecgr import check, data_commands, runs
from fedjax_ecgr.check import InputError
from fedjax_ecgr.devices import check_devices
from fedjax_ecgr.endings import BAD_INPUT, DIVERGED, UNWRITTEN, ended, fail
from fedjax_ecgr.engine import DivergedError, History, Progress, Simulation
from fedjax_ecgr.engine.memory import gib
from fedjax_ecgr.engine.placement import KINDS
from fedjax_ecgr.kinds import Kind
from fedjax_ecgr.live import live
from fedjax_ecgr.options import configure, parse, track_option, with_options
from fedjax_ecgr.regulators import RULES, STORAGES
from fedjax_ecgr.report_command import report
from fedjax_ecgr.runs.config import LISTINGS, PRECISIONS, RunConfig, flat, run_fields
from fedjax_ecgr.runs.parameters import first_line
from fedjax_ecgr.sweep_commands import sweep
from fedjax_ecgr.trackers import About, Trackers, chosen
from fedjax_ecgr.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    Args:
      argv: the arguments; those of the process by default.

    Returns:
      0; 1 for a file that cannot be written; 2 for bad input; 3 for a run that diverged; 130 for
      one that was interrupted, 143 by SIGTERM, 129 by SIGHUP.
    """
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command = typer.main.get_command(_app())
    try:
        return command.main(argv, prog_name="fedjax-ecgr", standalone_mode=False) or 0
    except InputError as error:
        return fail(str(error), BAD_INPUT)
    except typer.TyperException as error:
        return fail(f"{error.format_message()} (see --help)", BAD_INPUT)
    except DivergedError as error:
        return fail(str(error), DIVERGED)
    except KeyboardInterrupt as signal:
        return ended(signal, "what was done is kept")
    except OSError as error:
        return fail(f"{error.filename or 'file'}: {error.strerror or error}", UNWRITTEN)


def run(
    given: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(help="config.json of a recorded run, to start from", rich_help_panel="Run"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help=escape(
                "the run folder, a new name [default: runs/<time>-<method>-<data>-<seed>-<suffix>]"
            ),
            rich_help_panel="Run",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="a run that was stopped, to go on with", rich_help_panel="Run"),
    ] = None,
    track: Annotated[str | None, track_option("Run")] = None,
) -> int:
    """Trains, and records the run in a folder of its own.

    A run folder holds the full configuration (repeat it with --config), versions, the history as
    Parquet, a summary, the curves and the trained model. Options override those of --config. A run
    that was stopped or killed goes on with --resume, from where it was saved last.

    An option of a part is named by its kind or transform, --partition.alpha; --alpha is enough
    where only one of the parts chosen has such an option.
    """
    if resume is not None:
        return _resume(resume, {**given, "config": config, "out": out}, track)
    described = configure(given, config)
    folder = runs.refuse_existing(out or Path("runs") / _run_name(described))
    trackers = chosen(track)
    check_devices()
    built = runs.build(described)
    record = partial(runs.record, described, built, folder)
    return _run(described, built, folder, record, trackers)


def _resume(folder: Path, given: dict[str, Any], track: str | None) -> int:
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name}: not allowed beside --resume, which goes on with a run as is")
    recorded = runs.load(folder)
    trackers = chosen(track)
    check_devices()
    for change in runs.changes(recorded.environment):
        print(f"since it was begun: {change}")
    built = runs.build(recorded.config)
    return _run(recorded.config, built, folder, partial(runs.resume, built, recorded), trackers)


def _run(
    described: RunConfig,
    built: Simulation,
    folder: Path,
    record: Callable[..., History],
    trackers: Trackers,
) -> int:
    print(f"placement: {built.placement} ({jax.default_backend()})")
    if described.memory_budget is not None:
        foretold = built.memory().peak(built.placement.chunk_size)
        print(f"memory: {gib(foretold)} predicted at the peak, of {described.memory_budget:g} GiB")
    done, total = 0, described.rounds
    about = About(folder.name, folder, flat(described))
    try:
        with live(total) as show, trackers.following(about) as rows:

            def told(progress: Progress) -> None:
                nonlocal done
                done = progress.round
                rows(progress.table)
                nobody = math.isnan(progress.train_loss)
                loss = "nobody took part" if nobody else f"loss {progress.train_loss:.4g}"
                show(
                    done,
                    f"round {done}/{total}",
                    f"{loss}  accuracy {100 * progress.accuracy:.2f} %  "
                    f"{progress.rounds_per_second:.1f} rounds/s",
                )

            history = record(on_progress=told)
    except KeyboardInterrupt as signal:
        return ended(signal, f"kept in {folder}", f" after round {done}")
    except DivergedError:
        print(f"run folder: {folder}")
        raise
    for line in _result(history.summary(described.target_accuracy)):
        print(line)
    print(f"run folder: {folder}")
    return 0


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN…", help="recorded runs")],
    out: Annotated[Path | None, typer.Option(help="PNG to write the accuracy curves to")] = None,
    target_accuracy: Annotated[
        str | None,
        typer.Option(help="shows in which round runs reached it, in [0, 1]", metavar="NUMBER"),
    ] = None,
) -> int:
    """Compares recorded runs: mean ± standard deviation over those that differ in the seed only."""
    if out is not None:
        runs.refuse_existing(out)
    target = None if target_accuracy is None else parse(Kind(float), target_accuracy)
    if target is not None:
        check.number("target_accuracy", target, low=0, high=1)
    resolved = [folder.resolve() for folder in folders]
    for folder in folders:
        if resolved.count(folder.resolve()) > 1:
            raise InputError(f"run: {str(folder)!r} is given twice, each must be another run")
    groups = runs.group([runs.load(folder) for folder in folders])
    rows = [runs.row(members, target) for members in groups]
    rich.print(runs.table(rows, target))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure = runs.comparison(groups, "test accuracy, mean ± std over seeds")
        runs.write(out, lambda file: figure.savefig(file, format="png"))
        print(f"plot: {out}")
    return 0


def list_known() -> int:
    """Lists what can be chosen by name."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "name", "what it is"):
        table.add_column(heading)
    for kind, name, text in _known():
        table.add_row(kind, name, escape(text))
    rich.print(table)
    return 0


def _app() -> typer.Typer:
    app = typer.Typer(
        help=escape("Federated learning with ECGR, simulated by one compiled JAX program."),
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_versioned)
    app.command("run")(with_options(run, LISTINGS, run_fields()))
    app.command("sweep")(sweep)
    app.command("compare")(compare)
    app.command("report")(report)
    app.command("list")(list_known)
    app.add_typer(data_commands.data(), name="data")
    app.add_typer(data_commands.partition(), name="partition")
    return app


def _versioned(
    version: Annotated[
        bool, typer.Option("--version", help="Shows the version.", is_eager=True)
    ] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _result(summary: dict[str, Any]) -> Iterator[str]:
    yield f"accuracy: {summary['final_accuracy']:.4f} (best {summary['best_accuracy']:.4f})"
    if "rounds_to_target" in summary:
        reached = summary["rounds_to_target"]
        when = "not reached" if reached is None else f"reached in round {reached}"
        yield f"target accuracy {summary['target_accuracy']:g}: {when}"


def _run_name(config: RunConfig) -> str:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    what = f"{config.algorithm.name}-{config.regulator.name}-{config.data_name}-seed{config.seed}"
    return f"{now}-{what}-{uuid.uuid4().hex[:4]}"  # two may start in one second


def _known() -> Iterator[tuple[str, str, str]]:
    for kind, listing in LISTINGS.items():
        for name, factory in listing.items():
            yield kind, name, first_line(factory).removeprefix("Returns ")
    for name, rule in RULES.items():
        yield "rule", name, f"convergent are {rule.__doc__}"
    for name, text in STORAGES.items():
        yield "storage", name, text
    for name, text in KINDS.items():
        yield "placement", name, text
    for name, text in PRECISIONS.items():
        yield "precision", name, text
