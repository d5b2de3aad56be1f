r"""Devices that differ in speed and bandwidth, drop out, straggle, and miss deadlines.

What a client needs for its work, $T_i$ seconds, says `fedjax_ecgr.systems.clock`. In each round, by
draws of its own, a client drops out before it does anything, or else has time for a share
$s_i \sim \mathcal U(s, 1]$ of its steps only,

$$\tau_i' = \lceil s_i \tau_i \rceil$$

(the stragglers of FedProx, Li et al., arXiv 1812.06127, whose number of epochs is drawn). The
server waits for the slowest of those who did not drop out, but no longer than the deadline: who is
late then is dropped (as in FedCS, Nishio and Yonetani, arXiv 1804.08333), or does as many steps as
fit (as FedProx allows).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.systems.base import System, Task, Work
from fedjax_ecgr.systems.clock import Devices, draw_devices, manage
from fedjax_ecgr.types import Array, Hyperparameters

LATE = {"drop": "takes no part", "partial": "takes as many steps as fit"}
"""What becomes of a client that would miss the deadline."""


def heterogeneous(
    step_seconds: float | Array = 0.1,
    speed_spread: float | Array = 0.5,
    bandwidth: float | Array = 1e6,
    bandwidth_spread: float | Array = 0.5,
    dropout: float | Array = 0.0,
    min_steps_share: float | Array = 1.0,
    deadline: float | Array = 1e9,
    late: str = "drop",
) -> System:
    """Returns the system of devices that differ, with a virtual clock.

    Args:
      step_seconds: c > 0, median seconds of a local step.
      speed_spread: σ_c ≥ 0, of the logarithm of a client's seconds a step.
      bandwidth: B > 0, median bytes a second, up and down.
      bandwidth_spread: σ_B ≥ 0, of the logarithm of a client's bandwidth.
      dropout: probability in [0, 1) that a client drops out of a round.
      min_steps_share: s in (0, 1], the least share of its steps that a client has time for.
      deadline: > 0, seconds after which the server closes a round; 1e9 is none.
      late: what becomes of a client that would miss the deadline: drop, or partial, where it takes
        the steps that fit.

    Raises:
      InputError: for a number out of range; as a run starts, for a deadline that nobody can meet.

    Example:
      >>> heterogeneous(dropout=0.1).hyperparameters["dropout"]
      0.1
    """
    for name, value, most in (
        ("step_seconds", step_seconds, math.inf),
        ("bandwidth", bandwidth, math.inf),
        ("deadline", deadline, math.inf),
        ("min_steps_share", min_steps_share, 1),
    ):
        check.number(name, value, low=0, low_open=True, high=most)
    check.number("speed_spread", speed_spread, low=0)
    check.number("bandwidth_spread", bandwidth_spread, low=0)
    check.number("dropout", dropout, low=0, high=1, high_open=True)
    check.known("late", late, LATE)
    partial = late == "partial"

    def work(key: Array, devices: Devices, task: Task, numbers: Hyperparameters) -> Work:
        luck, ease = _draws(key, task.clients, devices.step_seconds.dtype)
        there = luck >= numbers["dropout"]
        share = 1 - (1 - numbers["min_steps_share"]) * ease
        task = task._replace(num_steps=shortened(task.num_steps, share))
        steps, seconds = manage(devices, task, numbers["deadline"], partial=partial)
        # the server waits for those who work; of who dropped out it knows
        waited = jnp.max(jnp.where(there & (task.num_steps > 0), seconds, 0))
        return Work(jnp.where(there, steps, 0), jnp.minimum(waited, numbers["deadline"]))

    def check_deadline(devices: Devices, task: Task, numbers: Hyperparameters) -> None:
        least = jnp.minimum(task.num_steps, 1)
        if not partial:
            least = shortened(task.num_steps, numbers["min_steps_share"])
        easiest = task._replace(num_steps=least)
        steps, seconds = manage(devices, easiest, numbers["deadline"], partial=False)
        if not np.asarray(steps).any():
            quickest = np.asarray(seconds)[np.asarray(task.num_steps) > 0].min()
            raise InputError(
                f"deadline: {float(numbers['deadline']):g} s is not allowed, nobody can meet it: "
                f"the quickest client needs {quickest:.3g} s"
            )

    numbers = {
        "step_seconds": step_seconds,
        "speed_spread": speed_spread,
        "bandwidth": bandwidth,
        "bandwidth_spread": bandwidth_spread,
        "dropout": dropout,
        "min_steps_share": min_steps_share,
        "deadline": deadline,
    }
    return System("heterogeneous", numbers, draw_devices, work, check_deadline)


def _draws(key: Array, clients: Array, dtype: jnp.dtype) -> Array:
    """Returns [2, c] numbers in [0, 1), of each client by its number."""
    return jax.vmap(
        lambda client: jax.random.uniform(jax.random.fold_in(key, client), (2,), dtype), out_axes=1
    )(clients)


def shortened(num_steps: Array, share: Array) -> Array:
    """Returns that share of the steps, rounded up, [c] int32: no more than there are."""
    # a share of 0.3 of 10 steps is 3, though 0.3 · 10 may be rounded above it
    part = jnp.ceil(share * num_steps.astype(share.dtype) * (1 - 1e-6))
    return jnp.minimum(part.astype(jnp.int32), num_steps)
