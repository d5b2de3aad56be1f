r"""The virtual clock: what devices take for their work, and how much of it a deadline leaves them.

Client i needs, for $\tau_i$ local steps and messages of $b_\downarrow$ and $b_\uparrow$ bytes,

$$T_i = \frac{b_\downarrow + b_\uparrow}{B_i} + \tau_i\,c_i, \qquad
c_i = c\,e^{\sigma_c z_i}, \quad B_i = B\,e^{\sigma_B z'_i}, \quad z_i, z'_i \sim \mathcal N(0, 1)$$

seconds: medians c and B, and log-normal spreads σ, drawn once a run.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.systems.base import Task
from fedjax_ecgr.types import Array, Hyperparameters


class Devices(NamedTuple):
    """The clients' devices: seconds a local step, and bytes a second; [N] each."""

    step_seconds: Array
    bandwidth: Array


def draw_devices(key: Array, num_clients: int, hyperparameters: Hyperparameters) -> Devices:
    """Draws the clients' devices, from the medians and spreads of the numbers given."""
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
    # a Python whole number of more than 31 bits would not do
    sending = float(task.bytes_down + task.bytes_up) / devices.bandwidth[task.clients]
    asked = task.num_steps.astype(each.dtype)
    seconds = sending + jnp.where(asked > 0, asked * each, 0)
    fitting: Array | int = 0
    if partial:
        left = deadline - sending
        fitting = jnp.where(left > 0, jnp.minimum(jnp.floor(left / each), asked), 0)
        fitting = fitting.astype(jnp.int32)
    return jnp.where(seconds <= deadline, task.num_steps, fitting), seconds
