"""What repeated runs say: spreads, paired differences, and aggregates with intervals.

The interquartile mean and the probability of improvement are those of Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice" (2021), arXiv 2108.13264, as its
library rliable computes them; its tasks are the settings here. All intervals are percentile
bootstraps of 95 %, with draws that are the same each time.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 10_000
_AT_ONCE = 2_000_000  # numbers drawn at once, so that a large study needs no large memory
_PERCENTILES = (2.5, 97.5)


class Spread(NamedTuple):
    """Mean and standard deviation over runs.

    Attributes:
      mean: mean of n values; NaN where there is none.
      std: sample standard deviation, sqrt(Σ (x − mean)² / (n − 1)); NaN where n is below 2.
      number: n.
    """

    mean: float
    std: float
    number: int


class Paired(NamedTuple):
    """The mean of paired differences, its 95 % interval (bootstrap), and who wins how often.

    Attributes:
      mean: of the differences; NaN where there is none.
      low: the interval's lower end; NaN where there are fewer than two pairs.
      high: the interval's upper end, likewise.
      wins: number of differences above 0.
      ties: number of differences that are 0.
      losses: number of differences below 0.
    """

    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int

    @property
    def number(self) -> int:
        """Number of pairs."""
        return self.wins + self.ties + self.losses

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.mean:+.2f}{interval}, {self.wins}/{self.ties}/{self.losses}"


class Estimate(NamedTuple):
    """A value and its 95 % interval (bootstrap).

    Attributes:
      value: the estimate.
      low: the interval's lower end.
      high: the interval's upper end.
    """

    value: float
    low: float
    high: float


def spread(values: Iterable[float | None]) -> Spread:
    """Returns the mean and standard deviation of the values that are there: not None, not NaN.

    Example:
      >>> spread([1.0, None, 3.0])
      Spread(mean=2.0, std=1.4142135623730951, number=2)
    """
    given = np.array([value for value in values if value is not None], np.float64)
    given = given[~np.isnan(given)]
    mean = float(given.mean()) if given.size else math.nan
    std = float(given.std(ddof=1)) if given.size > 1 else math.nan
    return Spread(mean, std, given.size)


def mean_std(values: Sequence[float]) -> str:
    """Returns `mean ± sample standard deviation` as text, two digits; one value stands alone.

    Example:
      >>> mean_std([1.0, 3.0]), mean_std([1.0])
      ('2.00 ± 1.41', '1.00')
    """
    mean, std, number = spread(values)
    return f"{mean:.2f} ± {std:.2f}" if number > 1 else f"{mean:.2f}"


def paired(ours: Sequence[float], theirs: Sequence[float], draws: int = _DRAWS) -> Paired:
    """Returns ours − theirs, pair by pair; the interval is a percentile bootstrap over pairs.

    Args:
      ours: [pairs].
      theirs: [pairs], in the same order.
      draws: how many means the interval is of.

    Example:
      >>> paired([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
      Paired(mean=1.0, low=1.0, high=1.0, wins=3, ties=0, losses=0)
    """
    difference = np.asarray(ours, float) - np.asarray(theirs, float)
    signs = np.sign(difference)
    wins, ties, losses = (int((signs == s).sum()) for s in (1, 0, -1))
    if len(difference) < 2:  # which says nothing of how far another would be
        mean = float(difference[0]) if len(difference) else math.nan
        return Paired(mean, math.nan, math.nan, wins, ties, losses)
    rng = np.random.default_rng(0)
    means = rng.choice(difference, (draws, len(difference))).mean(axis=1)
    low, high = np.percentile(means, _PERCENTILES)
    return Paired(float(difference.mean()), float(low), float(high), wins, ties, losses)


def interquartile_mean(settings: Sequence[np.ndarray], draws: int = _DRAWS) -> Estimate:
    """Returns the mean of what is left of all values without the lowest and the highest quarter.

    Of n values ⌊n/4⌋ are cut at each end: `scipy.stats.trim_mean(values, 0.25, axis=None)`. The
    bootstrap is stratified: it draws runs anew within each setting.

    Args:
      settings: for each setting its runs' scores, [runs]; at least one score in all.
      draws: how many interquartile means the interval is of.

    Example:
      >>> interquartile_mean([np.array([1.0, 2.0, 3.0, 90.0])]).value
      2.5
    """
    rng = np.random.default_rng(0)
    found: list[np.ndarray] = []
    size = sum(map(len, settings))
    for number in _parts(draws, size):
        drawn = [rng.choice(scores, (number, len(scores))) for scores in settings]
        found.append(_middle(np.concatenate(drawn, axis=1)))
    value = _middle(np.concatenate(settings)[np.newaxis])[0]
    return _estimate(value, np.concatenate(found))


def probability_of_improvement(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], draws: int = _DRAWS
) -> Estimate:
    """Returns P(X > Y): how likely a run of ours is above one of theirs, mean over settings.

    In a setting of N and M runs it is Mann–Whitney's U / (N M), U counting the pairs of runs with
    X > Y, and half of those with X = Y. The bootstrap draws both sides' runs anew within each
    setting.

    Args:
      ours: for each setting its runs' scores, [N].
      theirs: for each setting, in the same order, [M].
      draws: how many probabilities the interval is of.

    Example:
      >>> probability_of_improvement([np.array([1.0, 3.0])], [np.array([2.0, 2.0])]).value
      0.5
    """
    rng = np.random.default_rng(0)
    values, drawn = [], np.zeros(draws)
    for x, y in zip(ours, theirs, strict=True):
        above = (x[:, np.newaxis] > y) + 0.5 * (x[:, np.newaxis] == y)  # [N, M]
        values.append(above.mean())
        of_x, of_y = (_counts(rng, draws, runs) for runs in above.shape)
        drawn += ((of_x @ above) * of_y).sum(axis=1) / above.size
    return _estimate(float(np.mean(values)), drawn / len(values))


def mean_interval(values: np.ndarray, draws: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """Returns the 95 % interval of the mean over runs, at each of several points.

    Args:
      values: [runs, points], at least two runs; a draw takes the same runs at all points.
      draws: how many means the interval is of.

    Returns:
      The lower and the upper ends, [points] each.
    """
    runs = len(values)
    counts = _counts(np.random.default_rng(0), draws, runs)
    low, high = np.percentile(counts @ values / runs, _PERCENTILES, axis=0)
    return low, high


def _counts(rng: np.random.Generator, draws: int, runs: int) -> np.ndarray:
    """Returns [draws, runs], how often each run is in a draw of as many runs with replacement."""
    drawn = rng.integers(runs, size=(draws, runs)) + runs * np.arange(draws)[:, np.newaxis]
    return np.bincount(drawn.ravel(), minlength=draws * runs).reshape(draws, runs).astype(float)


def _middle(values: np.ndarray) -> np.ndarray:
    """Returns the interquartile means of [draws, n]."""
    cut = values.shape[1] // 4
    return np.sort(values, axis=1)[:, cut : values.shape[1] - cut].mean(axis=1)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.percentile(drawn, _PERCENTILES)
    return Estimate(float(value), float(low), float(high))


def _parts(draws: int, size: int) -> list[int]:
    """Returns how many draws to make at a time."""
    most = max(_AT_ONCE // size, 1)
    return [min(most, draws - done) for done in range(0, draws, most)]
