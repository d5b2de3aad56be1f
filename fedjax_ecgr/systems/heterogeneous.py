r"""Devices that differ in speed and bandwidth, drop out, and miss deadlines: a virtual clock.

Client i needs, for $\tau_i$ local steps and messages of $b_\downarrow$ and $b_\uparrow$ bytes,

$$T_i = \frac{b_\downarrow + b_\uparrow}{B_i} + \tau_i\,c_i, \qquad
c_i = c\,e^{\sigma_c z_i}, \quad B_i = B\,e^{\sigma_B z'_i}, \quad z_i, z'_i \sim \mathcal N(0, 1)$$

seconds: medians c and B, and log-normal spreads σ, drawn once a run. In each round a client drops
out with a probability of its own draw, before it does anything. The server waits for the slowest of
the others, but no longer than the deadline: who is late then is dropped (as in FedCS, Nishio and
Yonetani, arXiv 1804.08333), or does as many steps as fit (as FedProx allows, arXiv 1812.06127).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.systems.base import System, Task, Work
from fedjax_ecgr.types import Array, Hyperparameters

LATE = {"drop": "takes no part", "partial": "takes as many steps as fit"}
"""What becomes of a client that would miss the deadline."""


class Devices(NamedTuple):
    """The clients' devices: seconds a local step, and bytes a second; [N] each."""

    step_seconds: Array
    bandwidth: Array


def heterogeneous(
    step_seconds: float | Array = 0.1,
    speed_spread: float | Array = 0.5,
    bandwidth: float | Array = 1e6,
    bandwidth_spread: float | Array = 0.5,
    dropout: float | Array = 0.0,
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
      deadline: > 0, seconds after which the server closes a round; 1e9 is none.
      late: what becomes of a client that would miss the deadline: drop, or partial, where it takes
        the steps that fit.

    Raises:
      InputError: for a number out of range; as a run starts, for a deadline that nobody can meet.

    Example:
      >>> heterogeneous(dropout=0.1).hyperparameters["dropout"]
      0.1
    """
    numbers = {
        "step_seconds": step_seconds,
        "speed_spread": speed_spread,
        "bandwidth": bandwidth,
        "bandwidth_spread": bandwidth_spread,
        "dropout": dropout,
        "deadline": deadline,
    }
    for name, value in numbers.items():
        least_open = name in ("step_seconds", "bandwidth", "deadline")
        most = 1 if name == "dropout" else math.inf
        check.number(name, value, low=0, low_open=least_open, high=most, high_open=most == 1)
    check.known("late", late, LATE)
    partial = late == "partial"

    def work(key: Array, devices: Devices, task: Task, numbers: Hyperparameters) -> Work:
        steps, seconds = manage(devices, task, numbers["deadline"], partial=partial)
        draws = jax.random.uniform(key, steps.shape, seconds.dtype)
        there = draws >= numbers["dropout"]
        steps = jnp.where(there, steps, 0)
        # the server waits for those who work; of who dropped out it knows
        waited = jnp.max(jnp.where(there & (task.num_steps > 0), seconds, 0))
        return Work(steps, jnp.minimum(waited, numbers["deadline"]))

    def check_deadline(devices: Devices, task: Task, numbers: Hyperparameters) -> None:
        steps = manage(devices, task, numbers["deadline"], partial=partial)[0]
        asked = np.asarray(task.num_steps) > 0
        if np.asarray(steps)[asked].any():
            return
        least = task._replace(num_steps=jnp.minimum(task.num_steps, 1)) if partial else task
        quickest = np.asarray(manage(devices, least, numbers["deadline"], partial=False)[1])[asked]
        raise InputError(
            f"deadline: {float(numbers['deadline']):g} s is not allowed, nobody can meet it: the "
            f"quickest client needs {quickest.min():.3g} s"
        )

    return System("heterogeneous", numbers, _init, work, check_deadline)


def _init(key: Array, num_clients: int, hyperparameters: Hyperparameters) -> Devices:
    dtype = hyperparameters["step_seconds"].dtype
    speed, bandwidth = jax.random.normal(key, (2, num_clients), dtype)
    return Devices(
        hyperparameters["step_seconds"] * jnp.exp(hyperparameters["speed_spread"] * speed),
        hyperparameters["bandwidth"] * jnp.exp(hyperparameters["bandwidth_spread"] * bandwidth),
    )


def manage(devices: Devices, task: Task, deadline: Array, *, partial: bool) -> tuple[Array, Array]:
    """Returns the steps that each client manages by the deadline, and its seconds for all of them.

    Args:
      devices: of all clients.
      task: of the cohort.
      deadline: in seconds.
      partial: whether who would be late takes the steps that fit, else none.
    """
    each = devices.step_seconds[task.clients]
    sending = (task.bytes_down + task.bytes_up) / devices.bandwidth[task.clients]
    seconds = sending + task.num_steps.astype(each.dtype) * each
    if not partial:
        return jnp.where(seconds <= deadline, task.num_steps, 0), seconds
    fitting = jnp.floor(jnp.maximum(deadline - sending, 0) / each)
    most = task.num_steps.astype(each.dtype)
    return jnp.minimum(fitting, most).astype(jnp.int32), seconds
