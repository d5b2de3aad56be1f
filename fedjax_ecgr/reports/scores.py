"""Measures of one member of a study, each from the rounds it recorded.

What a measure takes are a member's rounds in order, columns as in `History.table`. It returns one
number, NaN where there is none: no evaluation, no round, a target that was not reached.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from fedjax_ecgr import check, metrics

Rows = Mapping[str, np.ndarray]


class Score(NamedTuple):
    """A measure.

    Attributes:
      title: what tables call it.
      of: the measure of a member's rounds.
      unit: of what is shown; "" for a plain number.
      scale: what a value is multiplied by to be shown in `unit`.
      digits: behind the point, in what is shown.
      higher_is_better: True, False, or None where neither is better in itself.
    """

    title: str
    of: Callable[[Rows], float]
    unit: str
    scale: float
    digits: int
    higher_is_better: bool | None

    @property
    def heading(self) -> str:
        """The title with the unit and the better direction."""
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return f"{self.title}{f' ({self.unit})' if self.unit else ''}{arrow}"


def final_accuracy(rows: Rows) -> float:
    """Returns the test accuracy at the last evaluation."""
    return _last(rows["test_accuracy"])


def best_accuracy(rows: Rows) -> float:
    """Returns the highest test accuracy of all evaluations, which favours what oscillates."""
    accuracy = _there(rows["test_accuracy"])
    return float(accuracy.max()) if accuracy.size else math.nan


def last_ten_accuracy(rows: Rows) -> float:
    """Returns the mean test accuracy of the last ten evaluations, or of all if there are fewer."""
    return mean_of_last_ten(rows["test_accuracy"])


def oscillation(rows: Rows) -> float:
    """Returns `metrics.oscillation` of the test accuracy; 0 for a curve that only rises."""
    accuracy = _there(rows["test_accuracy"])
    return metrics.oscillation(accuracy) if accuracy.size else math.nan


def client_accuracy(rows: Rows) -> float:
    """Returns the mean of the clients' accuracies at the last evaluation."""
    return _last(rows["client_accuracy_mean"])


def worst_client_accuracy(rows: Rows) -> float:
    """Returns the mean accuracy of the worst tenth of the clients at the last evaluation."""
    return _last(rows["client_accuracy_worst"])


def train_loss(rows: Rows) -> float:
    """Returns the training loss of the last round, Σ p_i (client i's mean over its local steps).

    Rounds that have none, as nobody took part, are passed over, here and below.
    """
    return _last(rows["train_loss"])


def divergence(rows: Rows) -> float:
    """Returns the local-global divergence, (1/R) Σ_t Σ_i p_i ‖w_t − w_{i,τ}‖₂.

    w_{i,τ} is where client i's local steps ended, before any regulation, from round t's w_t.
    """
    drift = _there(rows["drift"])
    return float(drift.mean()) if drift.size else math.nan


def gradient_variance(rows: Rows) -> float:
    """Returns the accumulated variance of local gradients, Σ_t Σ_i p_i ‖u_{t,i} − ū_t‖₂².

    u_{t,i} is what client i uploads in round t: the sum of its local steps (FedNova's divided by
    their number) after regulation, transforms and attacks; ū_t = Σ_i p_i u_{t,i}. Variance is over
    clients, not over batches; it scales with the square of the step size, and so compares only
    what takes the same.
    """
    variance = _there(rows["update_variance"])
    return float(variance.sum()) if variance.size else math.nan


def rounds_to(target: float, rows: Rows) -> float:
    """Returns the first round evaluated at a test accuracy of at least `target`."""
    found = metrics.rounds_to_accuracy(rows["round"], rows["test_accuracy"], target)
    return math.nan if found is None else float(found)


def bytes_to(target: float, rows: Rows) -> float:
    """Returns what all clients had sent by then, that round's messages among it."""
    return _until(target, rows, "bytes_up")


def seconds_to(target: float, rows: Rows) -> float:
    """Returns the time by the system's virtual clock at that round's end; NaN without a clock."""
    return _until(target, rows, "seconds") if rows["seconds"].any() else math.nan


SCORES = {
    "final_accuracy": Score("final accuracy", final_accuracy, "%", 100, 2, True),
    "best_accuracy": Score("best accuracy", best_accuracy, "%", 100, 2, True),
    "last_ten_accuracy": Score("mean of last ten", last_ten_accuracy, "%", 100, 2, True),
    "oscillation": Score("oscillation", oscillation, "%", 100, 2, False),
    "client_accuracy": Score("clients' accuracy", client_accuracy, "%", 100, 2, True),
    "worst_client_accuracy": Score("worst clients", worst_client_accuracy, "%", 100, 2, True),
    "train_loss": Score("training loss", train_loss, "", 1, 4, False),
    "divergence": Score("divergence", divergence, "", 1, 4, None),
    "gradient_variance": Score("gradient variance", gradient_variance, "", 1, 4, None),
}
"""The measures that every study has."""


def scores(target_accuracy: float | None = None) -> dict[str, Score]:
    """Returns all measures by name; those of reaching a target only where there is one.

    Args:
      target_accuracy: in [0, 1].

    Raises:
      InputError: if it is not.

    Example:
      >>> [name for name in scores(0.8) if name not in SCORES]
      ['rounds_to_target', 'bytes_to_target', 'seconds_to_target']
    """
    if target_accuracy is None:
        return dict(SCORES)
    check.number("target_accuracy", target_accuracy, low=0, high=1)
    to = f"to {100 * target_accuracy:g} %"
    return SCORES | {
        "rounds_to_target": Score(
            f"rounds {to}", partial(rounds_to, target_accuracy), "", 1, 1, False
        ),
        "bytes_to_target": Score(
            f"sent {to}", partial(bytes_to, target_accuracy), "MB", 1e-6, 2, False
        ),
        "seconds_to_target": Score(
            f"time {to}", partial(seconds_to, target_accuracy), "s", 1, 1, False
        ),
    }


def mean_of_last_ten(values: np.ndarray) -> float:
    """Returns the mean of the last ten values that there are, or of all if there are fewer."""
    last = _there(values)[-10:]
    return float(last.mean()) if last.size else math.nan


def _there(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)  # in which sums of float32 do not overflow
    return values[~np.isnan(values)]


def _last(values: np.ndarray) -> float:
    there = _there(values)
    return float(there[-1]) if there.size else math.nan


def _until(target: float, rows: Rows, column: str) -> float:
    reached = rounds_to(target, rows)
    return math.nan if math.isnan(reached) else float(rows[column][rows["round"] <= reached].sum())
