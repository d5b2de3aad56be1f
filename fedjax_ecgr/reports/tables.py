"""Tables of a study: values first, then Markdown, LaTeX, CSV, or rich for a terminal.

A measure has one table of mean ± sample standard deviation, methods down and settings across, as a
paper has it, and one of paired differences from the baseline. Where there are many settings, each
has rows of its own instead.
"""

import csv as csv_
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr.reports.results import DIVERGED_IN, MEMBER, STATUS, Results, by_member
from fedjax_ecgr.reports.scores import Score
from fedjax_ecgr.reports.statistics import Estimate, Paired, spread
from fedjax_ecgr.reports.study import Cell, Study, counted

_ACROSS = 6  # more settings than that do not fit across a page
_NONE = "–"
_FOLDED = ("method", "runs")
"""Columns that are folded in a narrow terminal."""


class Entry(NamedTuple):
    """One field of a table.

    Attributes:
      text: what it says.
      value: what it is sorted by; None for text and where there is no value.
      best: whether it is the best of its setting.
    """

    text: str
    value: float | None = None
    best: bool = False


class Table(NamedTuple):
    """A table, before it is Markdown or anything else.

    Attributes:
      title: what it is of.
      headings: of the columns.
      rows: an entry for each column.
      texts: number of columns, from the left, that hold words.
      notes: what a reader must know of it, one sentence each.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    texts: int
    notes: tuple[str, ...]


def of_scores(study: Study, score: Score) -> Table:
    """Returns a measure of every method in every setting, and its interquartile mean over all.

    The best is the method with the best mean among those all of whose runs have a value, where
    there are two or more of those; with runs missing, the mean is of those that are left.
    """
    best = {s: _best(study, s, score) for s in range(len(study.settings))}
    uneven = len({len(cell.members) for cell in study.cells.values()}) > 1

    def entry(method: int, setting: int) -> Entry:
        cell = study.cells.get((method, setting))
        if cell is None:
            return Entry("")
        return _mean(cell, score, method in best[setting], uneven)

    def overall(method: int) -> Entry:
        estimate, cell = study.interquartile(method, score), study.of_method(method)
        if estimate is None:
            return Entry(_NONE)
        there = sum(map(len, study.values(method, score)))
        return Entry(_estimate(estimate, score.digits) + _missing(cell, there), estimate.value)

    every = range(len(study.methods))
    headings, rows = _layout(study, every, entry, "IQM [95 %]", overall)
    runs = "" if uneven else f" over {len(next(iter(study.cells.values())).members)} runs"
    notes = [
        f"Mean ± sample standard deviation{runs}; IQM is the interquartile mean over the runs of "
        "all settings, with its bootstrap interval.",
    ]
    if any(best.values()):
        notes.append("Best of a setting, of the methods whose runs all have a value, in bold.")
    notes += _unfinished(study)
    return Table(score.heading, headings, rows, _texts(headings), tuple(notes))


def of_differences(study: Study, score: Score) -> Table | None:
    """Returns a measure's paired differences from the baseline; None where there is no baseline."""
    compared = [m for m, base in enumerate(study.baseline) if base is not None]
    if not compared:
        return None

    def entry(method: int, setting: int) -> Entry:
        return _compared(study, method, setting, score)

    def overall(method: int) -> Entry:
        found = study.improvement(method, score)
        if found is None:
            return Entry(_NONE)
        estimate, settings = found
        total = len(study.settings)
        some = f" in {settings} of {total} settings" if settings < total else ""
        return Entry(_estimate(estimate, 2) + some, estimate.value)

    headings, rows = _layout(study, compared, entry, "P(better) [95 %]", overall)
    note = (
        f"Mean paired difference from {study.against} over runs of the same seeds that both "
        "finished, 95 % bootstrap interval over pairs, and how many are above, equal and below. "
        "P(better) is the probability that a run is better than one of the other's, mean over "
        "settings."
    )
    title = f"{score.heading}, difference"
    return Table(title, headings, rows, _texts(headings), (note, *_unfinished(study)))


def overview(study: Study, scores: Mapping[str, Score]) -> Table:
    """Returns several measures at once: a row for each setting and method.

    The paired difference is that of the first measure.
    """
    first = next(iter(scores.values()))
    best = {
        (s, name): _best(study, s, score)
        for s in range(len(study.settings))
        for name, score in scores.items()
    }
    compares = any(base is not None for base in study.baseline)
    rows: list[tuple[Entry, ...]] = []
    for setting, group in enumerate(study.settings):
        for method, named in enumerate(study.methods):
            cell = study.cells.get((method, setting))
            if cell is None:
                continue
            row = [Entry(group.label), Entry(named.label), Entry(cell.told, len(cell.finished))]
            if len(study.settings) == 1:
                row = row[1:]
            measured = [
                _mean(cell, score, method in best[setting, name], uneven=False, terse=True)
                for name, score in scores.items()
            ]
            if compares:
                measured.insert(1, _compared(study, method, setting, first))
            rows.append((*row, *measured))
    measures = [score.heading for score in scores.values()]
    if compares:
        measures.insert(1, "difference [95 %]")
    headings = ["method", "runs", *measures]
    if len(study.settings) > 1:
        headings.insert(0, "setting")
    notes = ["Mean ± sample standard deviation over finished runs; best of a setting in bold."]
    if compares:
        notes.append(
            f"The difference of {first.title} is from {study.against}, paired by seed: mean, 95 % "
            "bootstrap interval, above/equal/below."
        )
    notes += _unfinished(study)
    title = ", ".join(score.title for score in scores.values())
    return Table(title, tuple(headings), tuple(rows), _texts(tuple(headings)), tuple(notes))


def all_of(study: Study, scores: Mapping[str, Score]) -> dict[str, list[Table]]:
    """Returns one or two tables for each measure that any member has a value of, by its name."""
    found = {}
    for name, score in scores.items():
        if any(len(v) for m in range(len(study.methods)) for v in study.values(m, score)):
            made = of_scores(study, score), of_differences(study, score)
            found[name] = [table for table in made if table is not None]
    return found


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown.

    Example:
      >>> print(markdown(["a", "b"], [["1", "x|y"]]), end="")
      | a | b |
      | --- | --- |
      | 1 | x\\|y |
    """
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped) + "\n"


def as_markdown(table: Table) -> str:
    """Returns a table with its title and notes in Markdown."""
    rows = [[f"**{e.text}**" if e.best else e.text for e in row] for row in table.rows]
    return f"## {table.title}\n\n{markdown(table.headings, rows)}\n{' '.join(table.notes)}\n"


def as_latex(table: Table) -> str:
    """Returns a table in LaTeX, to be read with the package booktabs."""
    columns = "l" * table.texts + "r" * (len(table.headings) - table.texts)
    rows = [
        " & ".join(rf"\textbf{{{latex(e.text)}}}" if e.best else latex(e.text) for e in row)
        for row in table.rows
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.title)}. {latex(' '.join(table.notes))}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(latex, table.headings)) + r" \\",
        r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    r"""Returns text as LaTeX shows it.

    Example:
      >>> print(latex("top_k & α=0.1: -1.50 ± 0.2 %"))
      top\_k \& $\alpha$=0.1: $-$1.50 $\pm$ 0.2 \%
    """
    minus = re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)
    return "".join(_LATEX.get(character, character) for character in minus)


def as_rich(table: Table, *, narrow: bool = False) -> Any:
    """Returns a `rich.table.Table`.

    Args:
      table: the table.
      narrow: folds methods between words, for a terminal that is too narrow.
    """
    from rich.box import SIMPLE
    from rich.cells import cell_len
    from rich.markup import escape
    from rich.table import Table as Rich

    caption = escape(" ".join(table.notes))
    shown = Rich(
        title=escape(table.title), box=SIMPLE, pad_edge=False, caption=caption, title_justify="left"
    )
    shown.caption_justify = "left"
    for number, heading in enumerate(table.headings):
        name, unit, rest = heading.partition(" (")
        short = f"{name}\n({rest}" if unit else name
        texts = [*short.splitlines(), *(row[number].text for row in table.rows)]
        # others stay whole: a number that is cut short would be another
        folds = narrow and heading in _FOLDED
        parts = [word for text in texts for word in text.split()] if folds else texts
        shown.add_column(
            escape(short),
            justify="left" if number < table.texts else "right",
            width=max(map(cell_len, parts)),
        )
    for row in table.rows:
        shown.add_row(
            *(f"[bold]{escape(e.text)}[/bold]" if e.best else escape(e.text) for e in row)
        )
    return shown


def csv_of_scores(study: Study, scores: Mapping[str, Score]) -> str:
    """Returns a row for each setting, method and measure, in full precision.

    Accuracies are shares, bytes are bytes: nothing is scaled. `runs` are all, `n` those with a
    value; `pairs` and what follows are of the paired difference from `baseline`.
    """
    axes = [*study.setting_axes, *study.method_axes]
    compared = ["baseline", "difference", "low", "high", "above", "equal", "below"]
    numbers = ["runs", "finished", "diverged", "n", "mean", "std"]
    headings = [*axes, "method", "measure", *numbers, *compared]
    rows: list[list[Any]] = []
    for (m, s), cell in sorted(study.cells.items(), key=lambda item: item[0][::-1]):
        base = study.baseline[m]
        for name, score in scores.items():
            plain = score._replace(scale=1)
            mean, std, number = spread(cell.values(plain).values())
            found = study.difference(m, s, plain)
            counts = [len(cell.members), len(cell.finished), cell.diverged, number]
            against = "" if base is None else study.methods[base].label
            row = [*study.settings[s].values, *study.methods[m].values, study.methods[m].label]
            rows.append([*row, name, *counts, mean, std, against, *(found or [None] * 6)])
    return csv(headings, rows)


def csv_of_members(results: Results, scores: Mapping[str, Score]) -> str:
    """Returns a row for each member: axes, status and measures, nothing scaled or left out."""
    histories, members = by_member(results), results.members
    axes = [axis for axis in results.axes if axis not in (MEMBER, STATUS)]
    headings = [MEMBER, *axes, STATUS, DIVERGED_IN, *scores]
    rows = [
        [
            *(members[name][row] for name in headings[: len(axes) + 3]),
            *(score.of(histories[member]) for score in scores.values()),
        ]
        for row, member in enumerate(members[MEMBER])
    ]
    return csv(headings, rows)


def csv(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns CSV; what is None or NaN is an empty field.

    Example:
      >>> csv(["a", "b"], [[0.1, "x, y"], [float("nan"), None]])
      'a,b\\n0.1,"x, y"\\n,\\n'
    """
    file = io.StringIO()
    writer = csv_.writer(file, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([_field(value) for value in row] for row in rows)
    return file.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: rf"\{character}" for character in "&%$#_{}"},
    **{character: f"${character}$" for character in "<>|"},
    "[": "{[}",  # behind a line's end it would be an option
    "±": r"$\pm$", "−": "$-$", "–": "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "α": r"$\alpha$", "β": r"$\beta$", "μ": r"$\mu$", "ρ": r"$\rho$", "η": r"$\eta$",
    "’": "'",
}  # fmt: skip


def _field(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else repr(float(value))
    return "" if value is None else value


def _best(study: Study, setting: int, score: Score) -> set[int]:
    """Returns the methods with the best mean in a setting, of those that lack no run."""
    if score.higher_is_better is None:
        return set()
    means = {}
    for method in range(len(study.methods)):
        cell = study.cells.get((method, setting))
        found = None if cell is None else spread(cell.values(score).values())
        if cell is not None and found is not None and found.number == len(cell.members):
            means[method] = found.mean
    if len(means) < 2:
        return set()
    best = (max if score.higher_is_better else min)(means.values())
    return {method for method, mean in means.items() if mean == best}


def _mean(cell: Cell, score: Score, best: bool, uneven: bool, terse: bool = False) -> Entry:
    """Returns mean ± std and, where that is not all runs, of how many."""
    mean, std, number = spread(cell.values(score).values())
    missing = _missing(cell, number) if not terse or number < len(cell.finished) else ""
    if uneven and not missing:
        missing = f" (n = {number})"
    if not number:
        return Entry(_NONE + missing)
    shown = f"{score.scale * mean:.{score.digits}f}"
    if number > 1:
        shown += f" ± {score.scale * std:.{score.digits}f}"
    return Entry(shown + missing, score.scale * mean, best)


def _compared(study: Study, method: int, setting: int, score: Score) -> Entry:
    """Returns the difference from the baseline; nothing for what others are compared with."""
    found = study.difference(method, setting, score)
    if found is None:
        return Entry("" if method in study.baseline else _NONE)
    return Entry(_paired(found, score.digits), found.mean)


def _missing(cell: Cell, number: int) -> str:
    total = len(cell.members)
    return "" if number == total else f" ({counted(number, total, cell.diverged)})"


def _unfinished(study: Study) -> list[str]:
    """Returns what is to be said of members that did not finish."""
    total = study.total
    missing = len(total.members) - len(total.finished)
    if not missing:
        return []
    return [
        f"{missing} of {len(total.members)} runs did not finish, {total.diverged} diverged: "
        "they are in no mean, pair or interval."
    ]


def _paired(found: Paired, digits: int) -> str:
    interval = (
        "" if math.isnan(found.low) else f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    )
    return f"{found.mean:+.{digits}f}{interval}, {found.wins}/{found.ties}/{found.losses}"


def _estimate(found: Estimate, digits: int) -> str:
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _layout(
    study: Study,
    methods: Sequence[int],
    entry: Callable[[int, int], Entry],
    heading: str,
    overall: Callable[[int], Entry],
) -> tuple[tuple[str, ...], tuple[tuple[Entry, ...], ...]]:
    """Returns headings and rows: settings across where they fit, else down."""
    settings = range(len(study.settings))
    labels = [group.label for group in study.settings]
    named = {m: Entry(study.methods[m].label) for m in methods}
    if len(settings) <= _ACROSS:
        rows = [(named[m], *(entry(m, s) for s in settings), overall(m)) for m in methods]
        return ("method", *labels, heading), tuple(rows)
    rows = [
        (Entry(labels[s]), named[m], entry(m, s))
        for s in settings
        for m in methods
        if (m, s) in study.cells
    ]
    rows += [(Entry(f"all: {heading}"), named[m], overall(m)) for m in methods]
    return ("setting", "method", "value"), tuple(rows)


def _texts(headings: tuple[str, ...]) -> int:
    return 2 if headings[0] == "setting" else 1
