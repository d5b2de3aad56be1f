"""A study as one HTML page that needs nothing else: no network, no other file, no library.

Tables sort by a click on a heading; curves say their values where the pointer is, or an arrow key.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr.reports import tables
from fedjax_ecgr.reports.curves import Curve, curve, style
from fedjax_ecgr.reports.scores import Score
from fedjax_ecgr.reports.study import Study
from fedjax_ecgr.reports.tables import Entry, Table

# nothing is ever fetched, whatever a label may hold
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_WIDTH, _HEIGHT = 440, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 8, 34


class _Frame(NamedTuple):
    """What of rounds and accuracies (%) is in view, the same in every figure."""

    first: float
    last: float
    low: float
    high: float

    def x(self, rounds: Any) -> Any:
        share = (rounds - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    def y(self, accuracy: Any) -> Any:
        share = (accuracy - self.low) / (self.high - self.low)
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)


def page(
    study: Study,
    scores: Mapping[str, Score],
    title: str,
    made: Mapping[str, Sequence[Table]] | None = None,
    chosen: Sequence[Table] = (),
) -> str:
    """Returns the page.

    Args:
      study: what it is of.
      scores: the measures it shows; the paired differences beside all of them are of the first.
      title: of the page.
      made: `tables.all_of` of these, if they are made already.
      chosen: tables of the numbers that were chosen before, see `fedjax_ecgr.reports.tune`.
    """
    made = tables.all_of(study, scores) if made is None else made
    room = files("fedjax_ecgr.reports")
    looks, script = (room.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    figures, data = _figures(study)
    there = {name: scores[name] for name in made}
    details = "".join(
        f"<details><summary>{escape(scores[name].heading)}</summary>"
        f"{''.join(map(_table, several))}</details>"
        for name, several in made.items()
    )
    total = study.total
    axes = ", ".join(study.method_axes + study.setting_axes) or "none"
    overview = _table(tables.overview(study, there)) if there else "<p>No run has a measure.</p>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
{looks}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{len(study.methods)} methods in {len(study.settings)} settings; runs: {total.told}.
What varies besides seeds: {escape(axes)}.</p>
{"".join(f"<h2>{escape(table.title)}</h2>{_table(table)}" for table in chosen)}
<h2>All measures</h2>
{overview}
<h2>Test accuracy (%) over the rounds</h2>
<p class="note">Mean over finished runs, with its 95 % bootstrap interval over seeds. Point at a
curve, or focus it and press an arrow key, for values.</p>
{_legend(study)}
<div class="figures">
{figures}
</div>
<h2>Measure by measure</h2>
{details}
<script type="application/json" id="curves">{_json(data)}</script>
<script>
{script}</script>
</body>
</html>
"""


def _figures(study: Study) -> tuple[str, list[dict[str, Any]]]:
    """Returns a figure a setting, and the numbers that it shows at the pointer."""
    found = [
        {
            method: drawn
            for method in range(len(study.methods))
            if (cell := study.cells.get((method, setting))) is not None
            and (drawn := curve(cell)) is not None
        }
        for setting in range(len(study.settings))
    ]
    frame = _frame([drawn for curves in found for drawn in curves.values()])
    shown, data = [], []
    for group, curves in zip(study.settings, found, strict=True):
        shown.append(_figure(group.label, curves, frame))
        data.append(
            {
                "left": _LEFT,
                "width": _WIDTH - _LEFT - _RIGHT,
                "top": _TOP,
                "height": _HEIGHT - _TOP - _BOTTOM,
                **frame._asdict(),
                "methods": [
                    {
                        "number": method,
                        "label": study.methods[method].label,
                        "rounds": drawn.rounds.astype(int).tolist(),
                        "mean": _percent(drawn.mean),
                        "low": _percent(drawn.low),
                        "high": _percent(drawn.high),
                    }
                    for method, drawn in curves.items()
                ],
            }
        )
    return "\n".join(shown), data


def _frame(curves: Sequence[Curve]) -> _Frame:
    if not curves:
        return _Frame(0, 1, 0, 100)
    rounds = [bound for c in curves for bound in (c.rounds[0], c.rounds[-1])]
    lows = [np.min(c.mean if c.low is None else c.low) for c in curves]
    highs = [np.max(c.mean if c.high is None else c.high) for c in curves]
    low, high = 100 * float(min(lows)), 100 * float(max(highs))
    margin = 0.04 * (high - low) or 1.0
    return _Frame(float(min(rounds)), float(max(rounds)), low - margin, high + margin)


def _figure(label: str, curves: Mapping[int, Curve], frame: _Frame) -> str:
    bands, lines, dots = [], [], []
    for method, drawn in curves.items():
        colour, line = style(method)
        if drawn.low is not None and drawn.high is not None:
            around = [
                *_points(frame, drawn.rounds, drawn.low),
                *_points(frame, drawn.rounds, drawn.high)[::-1],
            ]
            bands.append(f'<polygon class="band c{colour}" points="{" ".join(around)}"/>')
        points = " ".join(_points(frame, drawn.rounds, drawn.mean))
        lines.append(f'<polyline class="mean c{colour} l{line}" points="{points}"/>')
        dots.append(f'<circle class="dot c{colour}" r="3.5"/>')
    bottom = _HEIGHT - _BOTTOM
    named = "" if label == "all" else escape(label)
    return f"""<figure>
<figcaption>{named}</figcaption>
<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" tabindex="0" role="img"
aria-label="test accuracy over the rounds, {escape(label)}">
{_axes(frame)}
<line class="cursor" y1="{_TOP}" y2="{bottom}"/>
{"".join(bands + lines + dots)}
</svg>
<div class="told" hidden></div>
</figure>"""


def _points(frame: _Frame, rounds: np.ndarray, accuracy: np.ndarray) -> list[str]:
    x, y = frame.x(rounds), frame.y(100 * accuracy)
    x = np.broadcast_to(x, y.shape)
    return [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)]


def _axes(frame: _Frame) -> str:
    from matplotlib.ticker import MaxNLocator  # only who draws waits for the import

    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    marks = []
    steps = [1, 2, 5, 10]
    for tick in MaxNLocator(6, steps=steps).tick_values(frame.low, frame.high):
        if frame.low <= tick <= frame.high:
            y = frame.y(tick)
            marks.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            marks.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in MaxNLocator(6, steps=steps, integer=True).tick_values(frame.first, frame.last):
        if frame.first <= tick <= frame.last:
            x = frame.x(tick)
            text = f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>'
            marks.append(text)
    middle = (_LEFT + right) / 2
    marks.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">round</text>')
    return "".join(marks)


def _legend(study: Study) -> str:
    items = []
    for method in range(len(study.methods)):
        colour, line = style(method)
        items.append(
            f'<li data-method="{method}"><svg class="swatch" viewBox="0 0 30 10">'
            f'<line class="mean c{colour} l{line}" x1="0" x2="30" y1="5" y2="5"/></svg>'
            f"{escape(study.told(method))}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _table(table: Table) -> str:
    def kind(column: int) -> str:
        return ' class="text"' if column < table.texts else ""

    def field(column: int, entry: Entry) -> str:
        value = "" if entry.value is None else f' data-value="{float(entry.value)!r}"'
        text = escape(entry.text)
        strong = f"<strong>{text}</strong>" if entry.best else text
        return f"<td{kind(column)}{value}>{strong}</td>"

    head = "".join(
        f'<th scope="col"{kind(at)}><button type="button">{escape(heading)}</button></th>'
        for at, heading in enumerate(table.headings)
    )
    body = "".join(
        f"<tr>{''.join(field(at, entry) for at, entry in enumerate(row))}</tr>\n"
        for row in table.rows
    )
    notes = escape(" ".join(table.notes))
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>'
        f'</div>\n<p class="note">{notes}</p>\n'
    )


def _percent(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else np.round(100 * values, 4).tolist()


def _json(value: Any) -> str:
    """Returns JSON that cannot end the element that it stands in."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
