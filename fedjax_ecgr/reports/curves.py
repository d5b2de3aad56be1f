"""Curves of a study: for each method in each setting the mean over seeds, and its interval."""

from functools import reduce
from typing import NamedTuple

import numpy as np

from fedjax_ecgr.reports.statistics import mean_interval
from fedjax_ecgr.reports.study import Cell

LINES = ("solid", "dashed", "dashdot", "dotted")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#E69F00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's colours, told apart by colour-blind readers, without the yellow, which is too
pale for a line on white. Okabe and Ito, "Color Universal Design" (2008)."""


class Curve(NamedTuple):
    """A quantity over the rounds.

    Attributes:
      rounds: [points] those in which all finished runs were evaluated.
      mean: [points] over the finished runs.
      low: [points] lower end of the mean's 95 % bootstrap interval over runs; None for one run.
      high: [points] its upper end, likewise.
    """

    rounds: np.ndarray
    mean: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


class Style(NamedTuple):
    """How a method is drawn, wherever it is drawn.

    Attributes:
      colour: index into `COLOURS`.
      line: index into `LINES`.
    """

    colour: int
    line: int


def style(method: int) -> Style:
    """Returns how a method is drawn: neighbours differ in both, and no two of 28 are the same."""
    return Style(method % len(COLOURS), method % len(LINES))


def curve(cell: Cell, column: str = "test_accuracy") -> Curve | None:
    """Returns the curve of a cell's finished runs; None where none was evaluated.

    Args:
      cell: a method in a setting.
      column: of the history.
    """
    runs = [member.rows for member in cell.finished]
    if not runs:
        return None
    evaluated = [rows["round"][~np.isnan(rows[column])] for rows in runs]
    rounds = reduce(np.intersect1d, evaluated)
    if not rounds.size:
        return None
    values = np.stack([rows[column][np.isin(rows["round"], rounds)] for rows in runs])
    low, high = mean_interval(values) if len(runs) > 1 else (None, None)
    return Curve(rounds, values.mean(axis=0), low, high)
