"""Each measure, by hand, on six rounds that were evaluated every other round."""

import math

import numpy as np
import pytest

from fedjax_ecgr import InputError
from fedjax_ecgr.reports import SCORES, scores
from fedjax_ecgr.reports.results import COLUMNS

NAN = math.nan
ROWS = {
    **{name: np.zeros(6) for name in COLUMNS},
    "round": np.arange(1.0, 7.0),
    "test_accuracy": np.array([NAN, 0.3, NAN, 0.8, NAN, 0.7]),
    "client_accuracy_mean": np.array([NAN, 0.2, NAN, 0.7, NAN, 0.65]),
    "client_accuracy_worst": np.array([NAN, 0.1, NAN, 0.4, NAN, 0.35]),
    "train_loss": np.array([3.0, 2.0, 1.5, 1.2, 1.0, 0.9]),
    "drift": np.array([1.0, 2.0, 3.0, 2.0, 1.0, 0.0]),
    "update_variance": np.array([0.5, 0.25, 0.25, 0.0, 0.0, 1.0]),
    "bytes_up": np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
    "seconds": np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
}
BY_HAND = {
    "final_accuracy": 0.7,
    "best_accuracy": 0.8,
    "last_ten_accuracy": 0.6,
    "oscillation": (0.5 + 0.1 - 0.4) / 2,
    "client_accuracy": 0.65,
    "worst_client_accuracy": 0.35,
    "train_loss": 0.9,
    "divergence": 1.5,
    "gradient_variance": 2.0,
    "rounds_to_target": 4,
    "bytes_to_target": 100.0,
    "seconds_to_target": 6.0,
}


@pytest.mark.parametrize("name", scores(0.75))
def test_a_measure_is_what_it_is_by_hand(name):
    assert scores(0.75)[name].of(ROWS) == pytest.approx(BY_HAND[name], abs=1e-12)


@pytest.mark.parametrize("name", scores(0.75))
def test_without_a_round_there_is_no_measure(name):
    nothing = {column: values[:0] for column, values in ROWS.items()}
    assert math.isnan(scores(0.75)[name].of(nothing))


@pytest.mark.parametrize("name", ["divergence", "gradient_variance"])
def test_numbers_near_the_end_of_float32_are_added_up(name):
    column = {"divergence": "drift", "gradient_variance": "update_variance"}[name]
    rows = {**ROWS, column: np.full(6, 3e38, np.float32)}
    assert SCORES[name].of(rows) == pytest.approx(3e38 * (6 if name == "gradient_variance" else 1))


def test_a_target_that_is_not_reached_has_no_measure():
    high = scores(0.81)
    for name in high.keys() - SCORES.keys():
        assert math.isnan(high[name].of(ROWS))
    no_clock = {**ROWS, "seconds": np.zeros(6)}
    assert math.isnan(scores(0.75)["seconds_to_target"].of(no_clock))


def test_the_last_ten_are_ten_evaluations():
    accuracy = np.arange(30) / 100
    accuracy[1::2] = NAN
    rows = {**ROWS, "test_accuracy": accuracy}
    assert SCORES["last_ten_accuracy"].of(rows) == pytest.approx(np.arange(10, 30, 2).mean() / 100)


def test_headings_say_unit_and_direction():
    assert SCORES["final_accuracy"].heading == "final accuracy (%) ↑"
    assert SCORES["oscillation"].heading == "oscillation (%) ↓"
    assert SCORES["divergence"].heading == "divergence"
    assert scores(0.755)["bytes_to_target"].heading == "sent to 75.5 % (MB) ↓"


def test_a_target_out_of_range_is_refused():
    with pytest.raises(InputError, match=r"target_accuracy: 75 is not allowed, it must be in"):
        scores(75)
