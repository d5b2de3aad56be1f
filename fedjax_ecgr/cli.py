"""The command line: arguments in, progress and tables out.

`fedjax-ecgr run` has an option for everything that a factory of a listing takes, derived from its
signature and docstring, so nothing is to be done here for a new algorithm, model or data set. An
option is named by its kind, `--algorithm.alpha`; the short `--alpha` is that of whichever of the
names chosen takes it, where only one does.
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
from fedjax_ecgr.runs.config import (
    LISTINGS,
    PRECISIONS,
    Choice,
    RunConfig,
    options_of,
    run_fields,
)
from fedjax_ecgr.runs.parameters import Parameter, descriptions, first_line

PANELS = {
    "dataset": "Data",
    "partition": "Partition",
    "model": "Model",
    "algorithm": "Algorithm",
    "regulator": "Regulator",
    "transforms": "Transforms",
    "aggregator": "Aggregator",
    "attack": "Attack",
    "sampler": "Sampler",
    "system": "System",
}
_METAVARS = {
    int: "INT", float: "NUMBER", str: "NAME", tuple: "INT,INT,…", list: "INT,INT;INT…", Path: "PATH"
}  # fmt: skip
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

    @property
    def option(self) -> str:
        """Its full name, `algorithm.alpha`, as it is written behind two dashes."""
        return f"{self.kind}.{_dashed(self.parameter.name)}"


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
    """Returns the options that go to factories, by full name (`algorithm.server-momentum`)."""
    found: dict[str, Flag] = {}
    for kind, listing in LISTINGS.items():
        users: dict[str, dict[str, Parameter]] = {}
        for name in listing:
            for parameter in options_of(kind, name).values():
                users.setdefault(parameter.name, {})[name] = parameter
        for by_user in users.values():
            first = next(iter(by_user.values()))
            text = _explain(by_user, everyone=len(by_user) == len(listing) > 1)
            flag = Flag(kind, first, text)
            found[flag.option] = flag
    return found


def short_forms() -> dict[str, list[Flag]]:
    """Returns the options that the parameters' names alone stand for, by those: `alpha`.

    What a run's own options are called has no other meaning.
    """
    found: dict[str, list[Flag]] = {}
    for flag in flags().values():
        found.setdefault(_dashed(flag.parameter.name), []).append(flag)
    taken = {_dashed(name) for name in (*LISTINGS, *run_fields(), "config", "out", "help")}
    return {name: of for name, of in found.items() if name not in taken}


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
    fields = {field.name: field for field in dataclasses.fields(RunConfig)}
    documented, short = descriptions(RunConfig), short_forms()
    for kind, panel in PANELS.items():
        default = fields[kind].default
        shown = default.name if isinstance(default, Choice) else "none, or some: a,b"
        names = f"{', '.join(LISTINGS[kind])} [default: {shown}]"
        yield _keyword(kind, [f"--{kind}"], str, f"{documented[kind].rstrip('.')}: {names}", panel)
        for flag in flags().values():
            if flag.kind == kind:
                alone = short.get(_dashed(flag.parameter.name)) == [flag]
                called = [flag.option, *([_dashed(flag.parameter.name)] if alone else [])]
                yield _keyword(
                    _identifier(flag.option), [f"--{name}" for name in called],
                    flag.parameter.kind, flag.help, panel,
                )  # fmt: skip
    for name, of in short.items():
        if len(of) > 1:
            text = f"that of {' or '.join(f'--{flag.option}' for flag in of)} which is taken"
            yield _keyword(_identifier(name), [f"--{name}"], of[0].parameter.kind, text, "Short")
    for name, parameter in run_fields().items():
        default = "" if parameter.default is None else f" [default: {_text(parameter.default)}]"
        text = parameter.help + default
        yield _keyword(name, [f"--{_dashed(name)}"], parameter.kind, text, "Run")
    text = "config.json of a recorded run, to start from"
    yield _keyword("config", ["--config"], Path, text, "Run")
    text = "the run folder, a new name [default: runs/<time>-<method>-<data>]"
    yield _keyword("out", ["--out"], Path, text, "Run")


def _keyword(name: str, options: list[str], kind: type, text: str, panel: str) -> inspect.Parameter:
    if kind is bool:
        options = [f"{option}/--no-{option[2:]}" for option in options]
    option = typer.Option(
        *options,
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
    chosen = {kind: _chosen(kind, base, given.pop(kind, None)) for kind in LISTINGS}
    for flag, said, value in _given_flags(chosen, given):
        takers = _takers(flag, chosen)
        if not takers:
            raise InputError(_not_taken(flag, chosen, said, value))
        if len(takers) > 1:
            names = " and ".join(choice.name for choice in takers)
            raise InputError(f"{said}: {value!r} is not clear, {names} both take it (see --config)")
        takers[0].options[flag.parameter.name] = _parse(flag.parameter.kind, value)  # type: ignore[index]
    kinds = {name: parameter.kind for name, parameter in run_fields().items()}
    fields = {name: _parse(kinds[name], value) for name, value in given.items()}
    one = {kind: tuple(of) if kind == "transforms" else of[0] for kind, of in chosen.items()}
    return dataclasses.replace(base, **{**one, **fields})


def _chosen(kind: str, base: RunConfig, names: str | None) -> list[Choice]:
    """Returns the choices of one kind, with the options that stay when others are chosen."""
    before = getattr(base, kind)
    before = list(before) if kind == "transforms" else [before]
    if names is None:
        return [Choice(choice.name, dict(choice.options)) for choice in before]
    kept = {option: value for choice in before for option, value in choice.options.items()}
    wanted = [n for n in names.split(",") if n] if kind == "transforms" else [names]
    if wanted == ["none"] and kind == "transforms":
        wanted = []
    return [
        Choice(name, {o: v for o, v in kept.items() if o in options_of(kind, name)})
        for name in wanted
    ]


def _given_flags(
    chosen: dict[str, list[Choice]], given: dict[str, Any]
) -> Iterator[tuple[Flag, str, Any]]:
    """Yields the factories' options that were given, as they were called; takes them out."""
    for name, flag in flags().items():
        if _identifier(name) in given:
            alone = short_forms().get(_dashed(flag.parameter.name)) == [flag]
            said = _dashed(flag.parameter.name) if alone else name
            yield flag, said, given.pop(_identifier(name))
    for name, of in short_forms().items():
        if len(of) > 1 and _identifier(name) in given:
            value = given.pop(_identifier(name))
            taken = [flag for flag in of if _takers(flag, chosen)]
            if len(taken) > 1:
                options = " or ".join(f"--{flag.option}" for flag in taken)
                raise InputError(f"{name}: {value!r} is not clear, say {options}")
            yield (taken or of)[0], name, value


def _takers(flag: Flag, chosen: dict[str, list[Choice]]) -> list[Choice]:
    """Returns the names chosen that take an option."""
    return [
        choice
        for choice in chosen[flag.kind]
        if flag.parameter.name in options_of(flag.kind, choice.name)
    ]


def _not_taken(flag: Flag, chosen: dict[str, list[Choice]], said: str, value: Any) -> str:
    of = short_forms().get(said, [flag])
    owners = [
        name
        for one in of
        for name in LISTINGS[one.kind]
        if one.parameter.name in options_of(one.kind, name)
    ]
    names = ", ".join(choice.name for choice in chosen[flag.kind]) or "none"
    return (
        f"{said}: {value!r} is not allowed with {flag.kind} {names}, "
        f"it is an option of {' and '.join(owners)}"
    )


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _identifier(option: str) -> str:
    """Returns what Python calls an option."""
    return option.replace("-", "_").replace(".", "__")


def _read_config(path: Path) -> RunConfig:
    try:
        return runs.from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"config: {str(path)!r} cannot be read: {reason}") from None


def _parse(kind: type, value: Any) -> Any:
    """Returns what was given as `kind`, or as it is where it is none, to be refused by name."""
    try:
        if kind is list:
            return tuple(_parse(tuple, part) for part in value.split(";") if part)
        if kind is tuple:
            return tuple(int(item) for item in value.split(",") if item)
        return kind(value)
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
        nested = any(isinstance(item, tuple) for item in value)
        return (";" if nested else ",").join(map(_text, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fail(message: str, status: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status
