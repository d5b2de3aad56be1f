"""Statistics, against rliable's own numbers, SciPy and plain loops."""

import doctest
import importlib
import itertools
import json
import math
import statistics as plain
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as some

from fedjax_ecgr.reports import statistics
from fedjax_ecgr.reports.statistics import (
    interquartile_mean,
    mean_interval,
    mean_std,
    paired,
    probability_of_improvement,
    spread,
)

RECORD = json.loads((Path(__file__).parent / "rliable.json").read_text())
CASES = RECORD["cases"]
MONTE_CARLO = 0.03  # of the interval's length: what 10,000 draws leave, five times over


def settings(case, side):
    """Returns rliable's [runs, tasks] as runs by setting."""
    return list(np.array(case[side]).T)


def close(ours, theirs, step=0.0):
    """Asserts that a value is the same, and an interval as far as chance lets it.

    Args:
      ours: the estimate.
      theirs: [value, low, high].
      step: between neighbouring values that the estimate can have.
    """
    value, low, high = theirs
    assert ours.value == pytest.approx(value, abs=1e-12)
    chance = MONTE_CARLO * (high - low) + step
    assert ours.low == pytest.approx(low, abs=chance)
    assert ours.high == pytest.approx(high, abs=chance)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{np.shape(case['x'])}")
@pytest.mark.parametrize("side", ["x", "y"])
def test_the_interquartile_mean_is_rliable_s(case, side):
    close(interquartile_mean(settings(case, side)), case[f"iqm_{side}"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{np.shape(case['x'])}")
def test_the_probability_of_improvement_is_rliable_s(case):
    x, y = settings(case, "x"), settings(case, "y")
    step = 1 / (len(x[0]) * len(y[0]) * len(x))
    close(probability_of_improvement(x, y), case["improvement"], step)


values = some.lists(some.integers(-5, 5).map(float), min_size=1, max_size=9)


@given(some.lists(some.tuples(values, values), min_size=1, max_size=3))
def test_ragged_settings_are_pooled_and_averaged_as_the_definitions_say(sides):
    x, y = ([np.array(side) for side in of] for of in zip(*sides, strict=True))
    trimmed = scipy.stats.trim_mean(np.concatenate(x), 0.25, axis=None)
    assert interquartile_mean(x, draws=2).value == pytest.approx(trimmed, abs=1e-12)
    above = [
        np.mean([(a > b) + (a == b) / 2 for a, b in itertools.product(one, other)])
        for one, other in zip(x, y, strict=True)
    ]
    u = [
        scipy.stats.mannwhitneyu(one, other).statistic / (len(one) * len(other))
        for one, other in zip(x, y, strict=True)
    ]
    found = probability_of_improvement(x, y, draws=2).value
    assert found == pytest.approx(np.mean(above), abs=1e-12)
    assert found == pytest.approx(np.mean(u), abs=1e-12)


def test_a_draw_of_the_probability_is_a_draw_of_runs():
    """Against a plain loop that draws runs: all of the distribution's mean and spread."""
    x, y = np.array([0.1, 0.5, 0.9, 0.4]), np.array([0.2, 0.5, 0.3])
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(4000):
        a, b = rng.choice(x, len(x)), rng.choice(y, len(y))
        drawn.append(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = probability_of_improvement([x], [y])
    assert found.low == pytest.approx(low, abs=1 / 12)
    assert found.high == pytest.approx(high, abs=1 / 12)


def test_many_draws_in_small_parts_are_as_many(monkeypatch):
    whole = interquartile_mean([np.arange(8.0)], draws=500)
    monkeypatch.setattr(statistics, "_AT_ONCE", 64)
    parts = interquartile_mean([np.arange(8.0)], draws=500)
    assert parts == whole  # one stream of draws


def test_a_spread_is_that_of_the_standard_library():
    given = [0.3, 0.5, 0.9, None, math.nan]
    there = [0.3, 0.5, 0.9]
    found = spread(given)
    assert found.mean == pytest.approx(plain.mean(there), abs=1e-15)
    assert found.std == pytest.approx(plain.stdev(there), abs=1e-15)
    assert found.number == 3
    assert math.isnan(spread([1.0]).std)
    assert math.isnan(spread([]).mean)
    assert mean_std(there) == f"{plain.mean(there):.2f} ± {plain.stdev(there):.2f}"


def test_paired_differences_by_hand():
    found = paired([3.0, 1.0, 2.0, 5.0], [1.0, 1.0, 3.0, 1.0])  # 2, 0, −1, 4
    assert found.mean == 1.25
    assert (found.wins, found.ties, found.losses, found.number) == (2, 1, 1, 4)
    every = [np.mean(draw) for draw in itertools.product([2, 0, -1, 4], repeat=4)]  # all 256 draws
    low, high = np.percentile(every, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.25)  # steps of the means
    assert found.high == pytest.approx(high, abs=0.25)
    assert str(found) == f"+1.25 [{found.low:+.2f}, {found.high:+.2f}], 2/1/1"
    assert paired([3.0, 1.0, 2.0, 5.0], [1.0, 1.0, 3.0, 1.0]) == found  # each time


def test_one_pair_has_no_interval_and_none_has_nothing():
    assert str(paired([2.0], [1.0])) == "+1.00, 1/0/0"
    assert math.isnan(paired([2.0], [1.0]).low)
    assert math.isnan(paired([], []).mean)


def test_the_interval_of_a_mean_curve_is_that_of_each_point():
    curves = np.random.default_rng(3).normal(size=(6, 4))
    low, high = mean_interval(curves, draws=20_000)
    for point in range(4):
        single = paired(curves[:, point], np.zeros(6), draws=20_000)
        assert low[point] == pytest.approx(single.low, abs=0.06 * (single.high - single.low))
        assert high[point] == pytest.approx(single.high, abs=0.06 * (single.high - single.low))


@pytest.mark.parametrize("module", ["scores", "statistics", "tables"])
def test_examples_in_docstrings_are_true(module):
    found = doctest.testmod(importlib.import_module(f"fedjax_ecgr.reports.{module}"))
    assert found.attempted
    assert not found.failed
