"""Figures of a study: accuracy curves with bands, and heat maps over two axes."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.kinds import write
from fedjax_ecgr.reports.curves import COLOURS, LINES, curve, style
from fedjax_ecgr.reports.scores import Score
from fedjax_ecgr.reports.statistics import spread
from fedjax_ecgr.reports.study import Study, described

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 12  # of one figure


class Field(NamedTuple):
    """One field of a heat map.

    Attributes:
      value: what its colour says; NaN where there is none.
      text: what stands in it.
    """

    value: float
    text: str


Panel = Mapping[tuple[Any, Any], Field]


def accuracy_curves(study: Study) -> list["Figure"]:
    """Returns test accuracy over the rounds: a panel a setting, at most twelve a figure.

    Lines are means over the finished runs, bands their 95 % bootstrap intervals over seeds. Methods
    differ in colour and in the kind of line.
    """
    settings = range(len(study.settings))
    return [_curves(study, settings[at : at + _PANELS]) for at in settings[::_PANELS]]


def heat_maps(
    study: Study, score: Score, x: str, y: str, *, difference: bool = False
) -> list["Figure"]:
    """Returns a measure over two axes: a panel for each choice of the others.

    What has no value on one of the two axes, as a method without that option, is not in the map.

    Args:
      study: the study.
      score: what is shown: its mean over the finished runs.
      x: the axis across.
      y: the axis up.
      difference: shows the paired difference from the baseline in its place, with its 95 % interval
        below, and an asterisk where that does not hold 0.

    Raises:
      InputError: if one of them is no axis of methods or settings, or both are the same.
    """
    axes = study.method_axes + study.setting_axes
    for name, axis in (("x", x), ("y", y)):
        if axis not in axes:
            near, allowed = check.nearest(axis, axes), ", ".join(axes) or "none"
            raise InputError(f"{name}: {axis!r} is not allowed{near}, it must be one of: {allowed}")
    if x == y:
        raise InputError(f"y: {y!r} is not allowed, it must be another axis than x")
    common, panels = _panels(study, score, x, y, difference)
    values = [field.value for _, panel in panels for field in panel.values()]
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return []
    largest = max(map(abs, values)) or 1.0
    limits = (-largest, largest) if difference else (min(values), max(values))
    title = score.heading
    if difference:
        title += f", paired difference from {study.against}"
    if common:
        title += f"; {common}"
    if difference:
        title += "\nin brackets its 95 % bootstrap interval, * where that does not hold 0"
    return [
        _heat(panels[at : at + _PANELS], x, y, title, limits, difference)
        for at in range(0, len(panels), _PANELS)
    ]


def numeric_pairs(study: Study) -> list[tuple[str, str]]:
    """Returns the pairs of axes that a heat map is worth drawing over: both of several numbers."""
    numeric = []
    for axes, groups in (
        (study.method_axes, study.methods),
        (study.setting_axes, study.settings),
    ):
        for at, axis in enumerate(axes):
            values = {group.values[at] for group in groups} - {None}
            if len(values) > 1 and all(type(value) in (int, float) for value in values):
                numeric.append(axis)
    return list(combinations(numeric, 2))


def save(figure: "Figure", file: BinaryIO, form: str) -> None:
    """Writes a figure, the same each time.

    Args:
      figure: the figure.
      file: open for writing.
      form: "png" or "svg".
    """
    import matplotlib

    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "fedjax_ecgr"}):
        figure.savefig(file, format=form, dpi=150, metadata=metadata)


def _curves(study: Study, settings: Sequence[int]) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    down, across = _rows_and_columns(len(settings))
    labels = [study.told(method) for method in range(len(study.methods))]
    width = max(4.0 * across, 5.0)
    columns = max(1, min(3, len(labels), int(width / (0.08 * max(map(len, labels)) + 0.8))))
    size = (width, 3.1 * down + 0.25 * math.ceil(len(labels) / columns) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    panels = [*figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat]
    for axes, setting in zip(panels, settings, strict=False):
        _draw_curves(study, setting, axes)
    for axes in panels[len(settings) :]:
        axes.set_visible(False)
    for at, axes in enumerate(figure.axes):
        if at % across == 0:
            axes.set_ylabel("test accuracy (%)")
        if at + across >= len(settings):
            axes.set_xlabel("round")
            axes.tick_params(labelbottom=True)
    handles = []
    for method, label in enumerate(labels):
        colour, line = style(method)
        handles.append(Line2D([], [], label=label, color=COLOURS[colour], linestyle=LINES[line]))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2
    )
    return figure


def _rows_and_columns(panels: int) -> tuple[int, int]:
    across = 2 if panels == 4 else min(panels, 3)
    return math.ceil(panels / across), across


def _draw_curves(study: Study, setting: int, axes: "Axes") -> None:
    for method in range(len(study.methods)):
        cell = study.cells.get((method, setting))
        found = None if cell is None else curve(cell)
        if found is None:
            continue
        colour, line = style(method)
        look = {"color": COLOURS[colour], "linestyle": LINES[line]}
        # a few points would be hard to see, and one alone is no line
        marker = "." if len(found.rounds) < 10 else None
        axes.plot(found.rounds, 100 * found.mean, marker=marker, lw=1.6, **look)  # type: ignore[arg-type]
        if found.low is not None and found.high is not None:
            low, high = 100 * found.low, 100 * found.high
            axes.fill_between(found.rounds, low, high, color=COLOURS[colour], alpha=0.15, lw=0)
    label = study.settings[setting].label
    axes.set_title("" if label == "all" else label, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="x", integer=True, nbins=6)


def _panels(
    study: Study, score: Score, x: str, y: str, difference: bool
) -> tuple[str, list[tuple[str, Panel]]]:
    """Returns what all panels have in common, and each with its fields by (x, y)."""
    axes = study.method_axes + study.setting_axes
    others = [axis for axis in axes if axis not in (x, y)]
    panels: dict[tuple[Any, ...], dict[tuple[Any, Any], Field]] = {}
    for method, setting in study.cells:
        values = study.methods[method].values + study.settings[setting].values
        at = dict(zip(axes, values, strict=True))
        if None in (at[x], at[y]) or (difference and study.baseline[method] is None):
            continue
        panel = panels.setdefault(tuple(at[axis] for axis in others), {})
        panel[at[x], at[y]] = (_difference if difference else _mean)(study, method, setting, score)
    alike = {at for at in range(len(others)) if len({values[at] for values in panels}) == 1}

    def told(values: tuple[Any, ...], of: set[int]) -> str:
        return described([others[at] for at in sorted(of)], [values[at] for at in sorted(of)])

    common = told(next(iter(panels)), alike) if panels else ""
    rest = set(range(len(others))) - alike
    return common, [(told(values, rest), panel) for values, panel in panels.items()]


def _mean(study: Study, method: int, setting: int, score: Score) -> Field:
    cell = study.cells[method, setting]
    mean, _, number = spread(cell.values(score).values())
    some = "" if number == len(cell.members) else f"\n{number} of {len(cell.members)}"
    if not number:
        return Field(math.nan, f"–{some}")
    return Field(score.scale * mean, f"{score.scale * mean:.{score.digits}f}{some}")


def _difference(study: Study, method: int, setting: int, score: Score) -> Field:
    found = study.difference(method, setting, score)
    if found is None:
        return Field(math.nan, "–")
    digits = score.digits
    sure = "*" if found.low > 0 or found.high < 0 else ""
    total = len(study.cells[method, setting].members)
    some = "" if found.number == total else f"\n{found.number} of {total}"
    interval = (
        "" if math.isnan(found.low) else f"\n[{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    )
    return Field(found.mean, f"{found.mean:+.{digits}f}{sure}{interval}{some}")


def _heat(
    panels: Sequence[tuple[str, Panel]],
    x: str,
    y: str,
    title: str,
    limits: tuple[float, float],
    difference: bool,
) -> "Figure":
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    xs, ys = (_sorted({at[i] for _, panel in panels for at in panel}) for i in (0, 1))
    down, across = _rows_and_columns(len(panels))
    wide, high = (1.25 if difference else 0.8), 0.65
    size = (across * (wide * len(xs) + 0.5) + 1.4, down * (high * len(ys) + 0.75) + 0.5)
    figure = Figure(figsize=(max(size[0], 4.5), size[1]), layout="constrained")
    norm = Normalize(*limits)
    colours = matplotlib.colormaps["PuOr_r" if difference else "cividis"]
    all_axes = [*figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat]
    for axes, (label, panel) in zip(all_axes, panels, strict=False):
        grid = np.full((len(ys), len(xs)), np.nan)
        for (at_x, at_y), field in panel.items():
            place = xs.index(at_x), ys.index(at_y)
            grid[place[::-1]] = field.value
            red, green, blue, _ = colours(norm(field.value))
            light = math.isnan(field.value) or 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
            colour = "black" if light else "white"
            axes.text(*place, field.text, color=colour, fontsize=8, ha="center", va="center")
        axes.imshow(grid, norm=norm, cmap=colours, origin="lower", aspect="auto")
        axes.set_xticks(range(len(xs)), list(map(write, xs)))
        axes.set_yticks(range(len(ys)), list(map(write, ys)))
        axes.set_title(label, fontsize="medium")
        axes.spines[:].set_visible(False)
        for ticks, number in ((axes.set_xticks, len(xs)), (axes.set_yticks, len(ys))):
            ticks(np.arange(1, number) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=1.5)
        axes.tick_params(which="both", length=0)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for at, axes in enumerate(figure.axes):
        if at % across == 0:
            axes.set_ylabel(_short(y))
        if at + across >= len(panels):
            axes.set_xlabel(_short(x))
            axes.tick_params(labelbottom=True)
    figure.colorbar(ScalarMappable(norm, colours), ax=figure.axes, fraction=0.05, pad=0.02)
    figure.suptitle(title, fontsize="large")
    return figure


def _sorted(values: set[Any]) -> list[Any]:
    """Returns numbers by size, and anything else by what it is called."""
    return sorted(values, key=lambda v: (0, v, "") if type(v) in (int, float) else (1, 0, write(v)))


def _short(axis: str) -> str:
    return axis.rpartition(".")[2].replace("_", " ")
