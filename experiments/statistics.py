"""Paired comparisons: what experiments say of two methods over the same seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Paired(NamedTuple):
    """The mean of paired differences, its 95 % interval (bootstrap), and who wins how often."""

    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int

    def __str__(self) -> str:
        return (
            f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}], "
            f"{self.wins}/{self.ties}/{self.losses}"
        )


def paired(ours: Sequence[float], theirs: Sequence[float], draws: int = 10_000) -> Paired:
    """Returns ours − theirs, both by seed; the interval is a percentile bootstrap over seeds.

    Example:
      >>> paired([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
      Paired(mean=1.0, low=1.0, high=1.0, wins=3, ties=0, losses=0)
    """
    difference = np.asarray(ours, float) - np.asarray(theirs, float)
    rng = np.random.default_rng(0)
    means = rng.choice(difference, (draws, len(difference))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    signs = np.sign(difference)
    counts = (int((signs == s).sum()) for s in (1, 0, -1))
    return Paired(float(difference.mean()), float(low), float(high), *counts)


def mean_std(values: Sequence[float]) -> str:
    """Returns `mean ± sample standard deviation` as text, two digits."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
