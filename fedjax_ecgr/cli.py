"""The command line: arguments in, progress and tables out.

`fedjax-ecgr run` has an option for everything that a factory of a listing takes, derived from its
signature and docstring, so nothing is to be done here for a new algorithm, model or data set.
"""

import dataclasses
import datetime
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import rich
import typer
from rich import progress as bars
from rich.markup import escape
from rich.table import Table

from fedjax_ecgr import check, runs
from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine import DivergedError, Progress
from fedjax_ecgr.engine.memory import gib
from fedjax_ecgr.engine.placement import KINDS
from fedjax_ecgr.regulators import RULES, STORAGES
from fedjax_ecgr.runs.config import LISTINGS, PRECISIONS, Choice, RunConfig, options_of
from fedjax_ecgr.runs.parameters import Parameter, descriptions, first_line, parameters

PANELS = {
    "dataset": "Data",
    "partition": "Partition",
    "model": "Model",
    "algorithm": "Algorithm",
    "regulator": "Regulator",
}
_METAVARS = {int: "INT", float: "NUMBER", str: "NAME", tuple: "INT,INT,…", Path: "PATH"}
BAD_INPUT, DIVERGED, INTERRUPTED = 2, 3, 130


class Flag(NamedTuple):
    """An option of the command line that goes to a factory.

    Attributes:
      kind: the listing it belongs to.
      parameter: the factories' parameter; of the first factory, where several have it.
      help: what it is, and for which names.
    """

    kind: str
    parameter: Parameter
    help: str


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    Args:
      argv: the arguments; those of the process by default.

    Returns:
      0; 2 for bad input; 3 for a run that diverged; 130 for one that was interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command = typer.main.get_command(_app())
    try:
        return command.main(argv, prog_name="fedjax-ecgr", standalone_mode=False) or 0
    except InputError as error:
        return _fail(str(error), BAD_INPUT)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} (see --help)", BAD_INPUT)
    except DivergedError as error:
        return _fail(str(error), DIVERGED)
    except OSError as error:
        return _fail(f"{error.filename or 'file'}: {error.strerror or error}", 1)


def flags() -> dict[str, Flag]:
    """Returns the options that go to factories, by keyword (`select_ratio` is --select-ratio).

    A dataset's begin with `data_`, for what a dataset and a partition call alpha differ.
    """
    found: dict[str, Flag] = {}
    for kind, listing in LISTINGS.items():
        users: dict[str, dict[str, Parameter]] = {}
        for name in listing:
            for parameter in options_of(kind, name).values():
                users.setdefault(parameter.name, {})[name] = parameter
        prefix = "data_" if kind == "dataset" else ""
        for name, by_user in users.items():
            first = next(iter(by_user.values()))
            text = _explain(by_user, everyone=len(by_user) == len(listing) > 1)
            if found.setdefault(prefix + name, Flag(kind, first, text)).kind != kind:
                raise ValueError(f"--{name} is an option of {kind} and {found[name].kind}")
    return found


def run(given: dict[str, Any]) -> int:
    """Trains, with a progress bar, and records the run in a folder of its own.

    A run folder holds the full configuration (repeat it with --config), versions, the history as
    Parquet, a summary and the curves. Options override those of --config.
    """
    out, config = given.pop("out"), _configure(given, given.pop("config"))
    folder = runs.refuse_existing(out or Path("runs") / _run_name(config))
    built = runs.build(config)
    print(f"placement: {built.placement} ({jax.default_backend()})")
    if config.memory_budget is not None:
        foretold = built.memory().peak(built.placement.chunk_size)
        print(f"memory: {gib(foretold)} predicted at the peak, of {config.memory_budget:g} GiB")
    done = 0
    with _progress_bar() as bar:
        task = bar.add_task("compiling", total=config.rounds, status="")

        def show(progress: Progress) -> None:
            nonlocal done
            done = progress.round
            status = (
                f"loss {progress.train_loss:.4g}  accuracy {100 * progress.accuracy:.2f} %  "
                f"{progress.rounds_per_second:.1f} rounds/s"
            )
            text = f"round {done}/{config.rounds}"
            bar.update(task, completed=done, description=text, status=status)

        try:
            history = runs.record(config, built, folder, on_progress=show)
        except KeyboardInterrupt:
            bar.stop()
            return _fail(f"interrupted after round {done}; kept in {folder}", INTERRUPTED)
        except DivergedError:
            bar.stop()
            print(f"run folder: {folder}")
            raise
    for line in _result(history.summary(config.target_accuracy)):
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
    target = None if target_accuracy is None else _parse(float, target_accuracy)
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
    app.command("run")(_with_options(run))
    app.command("compare")(compare)
    app.command("list")(list_known)
    return app


def _with_options(function: Any) -> Any:
    """Returns `function` as typer takes it: with a keyword for each option, None if not given."""

    def command(**given: Any) -> int:
        return function(given)

    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(list(_keywords()))  # type: ignore[attr-defined]
    return command


def _keywords() -> Iterator[inspect.Parameter]:
    run_fields, of_factories = parameters(RunConfig), flags()
    fields = {field.name: field for field in dataclasses.fields(RunConfig)}
    documented = descriptions(RunConfig)
    for kind, panel in PANELS.items():
        names = f"{', '.join(LISTINGS[kind])} [default: {fields[kind].default.name}]"
        yield _keyword(kind, str, f"{documented[kind].rstrip('.')}: {names}", panel)
        for name, flag in of_factories.items():
            if flag.kind == kind:
                yield _keyword(name, flag.parameter.kind, flag.help, panel)
    for name, parameter in run_fields.items():
        default = "" if parameter.default is None else f" [default: {_text(parameter.default)}]"
        yield _keyword(name, parameter.kind, parameter.help + default, "Run")
    yield _keyword("config", Path, "config.json of a recorded run, to start from", "Run")
    yield _keyword(
        "out", Path, "the run folder, a new name [default: runs/<time>-<method>-<data>]", "Run"
    )


def _keyword(name: str, kind: type, text: str, panel: str) -> inspect.Parameter:
    flag = "--" + name.replace("_", "-")
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=escape(text),
        rich_help_panel=panel,
        show_default=False,
        metavar=_METAVARS.get(kind),
    )
    # Numbers come in as text, so that all that is wrong with one is said by the same checks.
    taken = kind if kind in (bool, Path) else str
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[taken | None, option],
    )


def _explain(by_user: dict[str, Parameter], *, everyone: bool) -> str:
    """Returns the help of an option that several factories may take, each with its own default."""
    told: dict[str, list[str]] = {}
    for name, parameter in by_user.items():
        default = "" if parameter.default is None else f" [default: {_text(parameter.default)}]"
        told.setdefault(parameter.help + default, []).append(name)
    if everyone and len(told) == 1:
        return next(iter(told))
    return "\n\n".join(f"{', '.join(names)}: {text}" for text, names in told.items())


def _configure(given: dict[str, Any], path: Path | None) -> RunConfig:
    """Returns the configuration of a file, or the default one, with what was given in its place."""
    base = RunConfig() if path is None else _read_config(path)
    given = {name: value for name, value in given.items() if value is not None}
    before: dict[str, Choice] = {kind: getattr(base, kind) for kind in LISTINGS}
    names = {kind: given.pop(kind, choice.name) for kind, choice in before.items()}
    options = {kind: _kept(kind, before[kind], names[kind]) for kind in LISTINGS}
    for name, flag in flags().items():
        if name in given:
            _check_owner(name, flag, names[flag.kind], given[name])
            options[flag.kind][flag.parameter.name] = _parse(flag.parameter.kind, given.pop(name))
    chosen = {kind: Choice(names[kind], options[kind]) for kind in LISTINGS}
    kinds = {name: parameter.kind for name, parameter in parameters(RunConfig).items()}
    fields = {name: _parse(kinds[name], value) for name, value in given.items()}
    return dataclasses.replace(base, **{**chosen, **fields})


def _kept(kind: str, before: Choice, name: str) -> dict[str, Any]:
    """Returns the options that stay when another name is chosen: those that it takes too."""
    takes = options_of(kind, name)
    return {option: value for option, value in before.options.items() if option in takes}


def _check_owner(name: str, flag: Flag, chosen: str, value: str) -> None:
    if flag.parameter.name in options_of(flag.kind, chosen):
        return
    owners = [n for n in LISTINGS[flag.kind] if flag.parameter.name in options_of(flag.kind, n)]
    option = name.replace("_", "-")
    raise InputError(
        f"{option}: {value!r} is not allowed with {flag.kind} {chosen}, "
        f"it is an option of {' and '.join(owners)}"
    )


def _read_config(path: Path) -> RunConfig:
    try:
        return runs.from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"config: {str(path)!r} cannot be read: {reason}") from None


def _parse(kind: type, value: Any) -> Any:
    """Returns what was given as `kind`, or as it is where it is none, to be refused by name."""
    try:
        return (
            tuple(int(item) for item in value.split(",") if item) if kind is tuple else kind(value)
        )
    except ValueError:
        return value


def _result(summary: dict[str, Any]) -> Iterator[str]:
    yield f"accuracy: {summary['final_accuracy']:.4f} (best {summary['best_accuracy']:.4f})"
    if "rounds_to_target" in summary:
        reached = summary["rounds_to_target"]
        when = "not reached" if reached is None else f"reached in round {reached}"
        yield f"target accuracy {summary['target_accuracy']:g}: {when}"


def _run_name(config: RunConfig) -> str:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    data = Path(config.dataset.name).stem
    return f"{now}-{config.algorithm.name}-{config.regulator.name}-{data}"


def _progress_bar() -> bars.Progress:
    return bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TextColumn("{task.fields[status]}"),
        bars.TimeElapsedColumn(),
    )


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


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fail(message: str, status: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status
