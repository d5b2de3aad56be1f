"""Metrics of a run, each with its formula.

Accuracies are shares in [0, 1], losses are mean cross-entropies in nats unless another loss is
given, bytes are those of the messages' arrays. Per-round diagnostics of training (training loss,
local-global divergence, variance of the updates) come out of the compiled round itself and are
defined at `fedjax_ecgr.engine.RoundInfo`.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr.types import AnyArray


class ClientAccuracy(NamedTuple):
    """How one global model serves the clients.

    Attributes:
      mean: (1/K) Σ a_i over the K clients that can be judged.
      std: sqrt((1/K) Σ (a_i − mean)²).
      worst: mean of the ⌈K/10⌉ smallest a_i.
    """

    mean: AnyArray
    std: AnyArray
    worst: AnyArray


def client_accuracy(accuracies: jax.Array) -> ClientAccuracy:
    """Summarises the clients' accuracies a_i.

    Args:
      accuracies: [K], K ≥ 1.

    Example:
      >>> summary = client_accuracy(jnp.array([0.2, 0.8, 0.8, 0.6]))
      >>> [round(float(x), 3) for x in summary]
      [0.6, 0.245, 0.2]
    """
    tail = math.ceil(accuracies.shape[0] / 10)
    return ClientAccuracy(accuracies.mean(), accuracies.std(), jnp.sort(accuracies)[:tail].mean())


def message_bytes(message: Any) -> int:
    """Returns the bytes of a message's arrays: Σ size × bytes per number, without any framing.

    Args:
      message: a pytree of arrays, or of their shapes (`jax.eval_shape`).
    """
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(message))


def oscillation(accuracy: AnyArray) -> float:
    """Returns how much accuracy goes up and down: (Σ |a_r − a_{r−1}| − |a_R − a_1|) / (R − 1).

    That is the total variation of the curve, less what a monotone curve between the same ends has,
    per step: 0 for a curve that only rises.

    Args:
      accuracy: [R] accuracies of successive evaluations; NaN where none was made.

    Example:
      >>> round(oscillation(np.array([0.1, 0.5, 0.3, 0.7])), 4)
      0.1333
    """
    a = np.asarray(accuracy, np.float64)
    a = a[~np.isnan(a)]
    if a.size < 2:
        return 0.0
    return float((np.abs(np.diff(a)).sum() - abs(a[-1] - a[0])) / (a.size - 1))


def rounds_to_accuracy(rounds: AnyArray, accuracy: AnyArray, target: float) -> int | None:
    """Returns the first round r with a_r ≥ target, or None where there is none.

    Args:
      rounds: [R] round numbers.
      accuracy: [R] accuracies; NaN where no evaluation was made.
      target: the accuracy to reach.

    Example:
      >>> rounds_to_accuracy(np.array([5, 10, 15]), np.array([0.3, 0.8, 0.7]), 0.75)
      10
    """
    reached = np.nonzero(np.asarray(accuracy) >= target)[0]
    return int(rounds[reached[0]]) if reached.size else None
