"""Recorded runs as tables and figures: pure functions of what was recorded."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedjax_ecgr import metrics
from fedjax_ecgr.kinds import write
from fedjax_ecgr.reports.statistics import Spread, spread
from fedjax_ecgr.runs.config import flat
from fedjax_ecgr.runs.recorded import Recorded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = Mapping[str, np.ndarray]


class Group(NamedTuple):
    """Runs that differ in nothing but the seed.

    Attributes:
      label: what sets them apart from the other groups.
      runs: those that finished.
      unfinished: number of runs that did not; they count nowhere else.
    """

    label: str
    runs: list[Recorded]
    unfinished: int


class Row(NamedTuple):
    """One group in numbers.

    Attributes:
      label: of the group.
      runs: number of finished runs.
      unfinished: number of runs that diverged or were stopped.
      final_accuracy: of the last evaluation; higher is better.
      best_accuracy: the highest of a run.
      oscillation: see `metrics.oscillation`; lower is better.
      rounds_to_target: over the runs that reached the target; lower is better.
      bytes_up: what all clients sent in a run.
      rounds_per_second: compilation apart.
    """

    label: str
    runs: int
    unfinished: int
    final_accuracy: Spread
    best_accuracy: Spread
    oscillation: Spread
    rounds_to_target: Spread
    bytes_up: Spread
    rounds_per_second: Spread


def group(runs: Sequence[Recorded]) -> list[Group]:
    """Returns the runs grouped by everything but the seed, in the order first seen."""
    groups: dict[str, list[Recorded]] = {}
    for run in runs:
        alike = {**flat(run.config), "seed": None}
        groups.setdefault(repr(sorted(alike.items())), []).append(run)
    members = list(groups.values())
    return [
        Group(label, [run for run in runs if _finished(run)], sum(not _finished(r) for r in runs))
        for label, runs in zip(_labels([runs[0] for runs in members]), members, strict=True)
    ]


def row(group: Group, target_accuracy: float | None = None) -> Row:
    """Returns a group in numbers.

    Args:
      group: the runs.
      target_accuracy: what `rounds_to_target` is about.
    """
    summaries = [run.summary for run in group.runs]

    def over(name: str) -> Spread:
        return spread([summary.get(name) for summary in summaries])

    reached = [
        metrics.rounds_to_accuracy(r.table["round"], r.table["test_accuracy"], target_accuracy)
        for r in group.runs
        if target_accuracy is not None
    ]
    return Row(
        group.label,
        len(group.runs),
        group.unfinished,
        over("final_accuracy"),
        over("best_accuracy"),
        over("oscillation"),
        spread(reached),
        over("bytes_up"),
        over("rounds_per_second"),
    )


def table(rows: Sequence[Row], target_accuracy: float | None = None) -> Any:
    """Returns a `rich.table.Table` of the rows: mean ± sample standard deviation over seeds."""
    from rich.box import SIMPLE
    from rich.table import Table

    caption = "accuracy and oscillation in %, mean ± standard deviation over seeds"
    shown = Table(box=SIMPLE, pad_edge=False, caption=caption, caption_justify="left")
    shown.add_column("method", min_width=10)
    headings = ["runs", "final accuracy", "oscillation"]
    if target_accuracy is not None:
        headings.append(f"rounds to {100 * target_accuracy:g} %")
    for heading in [*headings, "MB sent"]:
        shown.add_column(heading, justify="right", no_wrap=True)
    for r in rows:
        runs = f"{r.runs} (+{r.unfinished} unfinished)" if r.unfinished else f"{r.runs}"
        cells = [_shown(s, 2, 100) for s in (r.final_accuracy, r.oscillation)]
        if target_accuracy is not None:
            reached = r.rounds_to_target.number
            some = f" ({reached} of {r.runs})" if reached < r.runs else ""
            cells.append(_shown(r.rounds_to_target, 1) + some)
        sent = Spread(r.bytes_up.mean, float("nan"), r.bytes_up.number)
        shown.add_row(r.label, runs, *cells, _shown(sent, 1, 1e-6))
    return shown


def curves(table: Table, title: str) -> "Figure":
    """Returns one run's accuracy, losses, drift and update variance over the rounds.

    Args:
      table: as in `History.table`.
      title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(title)
    ((accuracy, loss), (drift, variance)) = figure.subplots(2, 2, sharex=True)
    rounds, evaluated = table["round"], ~np.isnan(table["test_accuracy"])
    at = rounds[evaluated]

    def trained(name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rounds that have such a number, and it."""
        there = ~np.isnan(table[name])
        return rounds[there], table[name][there]

    mean, std = (table[f"client_accuracy_{name}"][evaluated] for name in ("mean", "std"))
    _line(accuracy, at, table["test_accuracy"][evaluated], label="test set")
    _line(accuracy, at, mean, label="clients, mean ± std", color="C1", linestyle="--")
    accuracy.fill_between(
        at, np.maximum(mean - std, 0), np.minimum(mean + std, 1), color="C1", alpha=0.15, lw=0
    )
    worst = table["client_accuracy_worst"][evaluated]
    _line(accuracy, at, worst, label="clients, worst 10 %", color="C3", lw=1)
    _describe(accuracy, "accuracy")
    accuracy.set_ylim(0, 1)

    _line(loss, at, table["test_loss"][evaluated], label="test set")
    _line(loss, *trained("train_loss"), label="clients, while they train", color="C1")
    loss.set_ylim(bottom=0)
    _describe(loss, "loss")

    _line(drift, *trained("drift"), color="C2")
    _describe(drift, "drift from the global model, L2")
    _line(variance, *trained("update_variance"), color="C4")
    _describe(variance, "variance of the clients' updates")
    for axes in (drift, variance):
        axes.set_xlabel("round")
        axes.set_ylim(bottom=0)
    return figure


def comparison(groups: Sequence[Group], title: str) -> "Figure":
    """Returns the groups' test accuracy over the rounds: mean, with a band of ± std over seeds.

    Args:
      groups: runs by method; those without a finished run are left out.
      title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for index, members in enumerate(groups):
        if not members.runs:
            continue
        curves = np.stack([run.table["test_accuracy"] for run in members.runs])
        evaluated = ~np.isnan(curves).any(axis=0)
        at, curves = members.runs[0].table["round"][evaluated], curves[:, evaluated]
        mean, count = curves.mean(axis=0), len(curves)
        seeds = f"{count} seed{'s' if count > 1 else ''}"
        _line(axes, at, mean, color=f"C{index}", label=f"{members.label} ({seeds})")
        if count > 1:
            std = curves.std(axis=0, ddof=1)
            axes.fill_between(at, mean - std, mean + std, color=f"C{index}", alpha=0.15, lw=0)
    _describe(axes, "test accuracy")
    axes.set_xlabel("round")
    axes.set_title(title)
    return figure


def _line(axes: "Axes", x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    # a few points would be hard to see, and one alone is no line
    axes.plot(x, y, marker="." if len(x) < 10 else None, **style)


def _describe(axes: "Axes", quantity: str) -> None:
    axes.set_title(quantity, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.margins(x=0.02)
    axes.locator_params(axis="x", integer=True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")


def _finished(run: Recorded) -> bool:
    return run.status == "finished"


def _labels(runs: Sequence[Recorded]) -> list[str]:
    """Returns for each run its method and what sets it apart from others of the same method."""
    methods = [run.config.method for run in runs]
    flats = [{**flat(run.config), "seed": None} for run in runs]
    labels = []
    for method, own in zip(methods, flats, strict=True):
        others = [other for m, other in zip(methods, flats, strict=True) if m == method]
        differing = [
            name
            for name, value in own.items()
            if any(name in other and other[name] != value for other in others)
        ]
        short = [name.split(".")[-1] for name in differing]
        shown = [s if short.count(s) == 1 else n for s, n in zip(short, differing, strict=True)]
        told = [f"{s}={write(own[n])}" for s, n in zip(shown, differing, strict=True)]
        labels.append(", ".join([method, *told]))
    return labels


def _shown(value: Spread, digits: int, scale: float = 1.0) -> str:
    if not value.number:
        return "–"
    deviation = "" if np.isnan(value.std) else f" ± {scale * value.std:.{digits}f}"
    return f"{scale * value.mean:.{digits}f}{deviation}"
