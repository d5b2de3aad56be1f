"""The command `fedjax-ecgr report`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console

from fedjax_ecgr import check, runs
from fedjax_ecgr.check import InputError
from fedjax_ecgr.files import whole_folder, write
from fedjax_ecgr.kinds import Kind
from fedjax_ecgr.options import parse
from fedjax_ecgr.reports import (
    Results,
    Score,
    Study,
    having,
    merge,
    plots,
    read,
    scores,
    study,
    tables,
    tuning,
)
from fedjax_ecgr.reports.page import page
from fedjax_ecgr.reports.tables import Table

_SHOWN = ("final_accuracy", "rounds_to_target")  # what fits across a terminal
_MAPPED = "final_accuracy"


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER…", help="a study, or several parts of one")
    ],
    target_accuracy: Annotated[
        str | None,
        typer.Option(help="adds what it took to reach it, in [0, 1]", metavar="NUMBER"),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="what methods are compared with, such as regulator=identity; may be repeated",
            metavar="AXIS=VALUE",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="a value that members have, of which the report is, such as partition.alpha=0.1; "
            "may be repeated, of one axis for one of several",
            metavar="AXIS=VALUE",
        ),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="an axis whose value each method has from the validation examples, such as "
            "algorithm.learning_rate; may be repeated",
            metavar="AXIS",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="a new folder for tables, plots and the page")
    ] = None,
) -> int:
    """Makes tables and plots of a study: mean ± standard deviation and paired differences.

    With --out they are Markdown, LaTeX, CSV, PNG, SVG, and one HTML page.
    A run that is in several folders counts once.
    Those that did not finish are counted, and are in no mean.
    """
    if out is not None:
        runs.refuse_existing(out)
    target = None if target_accuracy is None else parse(Kind(float), target_accuracy)
    if target is not None:
        check.number("target_accuracy", target, low=0, high=1)
    results, chosen = _read(folders), []
    if only:
        results = having(results, _assigned("only", only))
    if tune:
        tuned = tuning.tune(results, [_axis(axis) for axis in tune])
        results, chosen = tuned.results, [tuning.of_choices(tuned)]
    compared = _one_each(_assigned("against", against)) if against else None
    measures, found = scores(target), study(results, compared)
    shown = {name: measures[name] for name in _SHOWN if name in measures}
    for table in (*chosen, tables.overview(found, shown)):
        _print(table)
    if out is not None:
        title = ", ".join(folder.resolve().name for folder in folders)
        with whole_folder(out) as hidden:
            for name, content in _files(results, found, measures, title, chosen):
                write(hidden / name, content)
        print(f"report: {out}")
    return 0


def _read(folders: list[Path]) -> Results:
    parts = [read(folder) for folder in folders]
    return merge(parts) if len(parts) > 1 else parts[0]


def _assigned(option: str, given: list[str]) -> dict[str, list[str]]:
    """Returns values by axis; an axis may be written as on the command line, with hyphens."""
    values: dict[str, list[str]] = {}
    for one in given:
        axis, equals, value = one.partition("=")
        if not equals:
            raise InputError(
                f"{option}: {one!r} is not allowed, it must be AXIS=VALUE, such as "
                "regulator=identity"
            )
        values.setdefault(_axis(axis), []).append(value)
    return values


def _one_each(values: dict[str, list[str]]) -> dict[str, str]:
    """Returns the value of each axis of `--against`."""
    for axis, several in values.items():
        if len(several) > 1:
            raise InputError(f"against: {axis!r} has {len(several)} values, it must have one")
    return {axis: value for axis, (value,) in values.items()}


def _axis(text: str) -> str:
    return text.removeprefix("--").replace("-", "_")


def _print(table: Table) -> None:
    width = Console().width
    for narrow in (False, True):
        shown = tables.as_rich(table, narrow=narrow)
        needed = Console(width=10_000).measure(shown).minimum
        if needed <= width:
            break
    # a terminal that is still too narrow breaks lines, rather than lose what does not fit
    Console(width=max(width, needed)).print(shown)


def _files(
    results: Results,
    found: Study,
    measures: dict[str, Score],
    title: str,
    chosen: list[Table],
) -> Iterator[tuple[str, Callable[[BinaryIO], Any]]]:
    """Yields the name and the content of each file."""
    made = tables.all_of(found, measures)
    flat = [*chosen, *(table for several in made.values() for table in several)]
    texts = {
        "tables.md": "# Tables\n\n" + "\n".join(map(tables.as_markdown, flat)),
        "tables.tex": "% \\usepackage{booktabs}\n\n" + "\n".join(map(tables.as_latex, flat)),
        "scores.csv": tables.csv_of_scores(found, measures),
        "members.csv": tables.csv_of_members(results, measures),
        "report.html": page(found, measures, title, made, chosen),
    }
    for name, text in texts.items():
        yield name, _writer(text)
    figures = {"curves": plots.accuracy_curves(found)}
    for x, y in plots.numeric_pairs(found):
        for difference in (False, True):
            kind = "difference" if difference else "map"
            drawn = plots.heat_maps(found, measures[_MAPPED], x, y, difference=difference)
            figures[f"{kind}-{x}-{y}"] = drawn
    for name, several in figures.items():
        for number, figure in enumerate(several, start=1):
            numbered = f"{name}-{number}" if len(several) > 1 else name
            for form in ("png", "svg"):
                yield f"{numbered}.{form}", _drawer(figure, form)


def _writer(text: str) -> Callable[[BinaryIO], Any]:
    return lambda file: file.write(text.encode())


def _drawer(figure: Any, form: str) -> Callable[[BinaryIO], Any]:
    return lambda file: plots.save(figure, file, form)
