r"""DP-FedAvg (McMahan et al., arXiv 1710.06963): updates clipped, and noise in their mean.

Every client clips its update to length C and adds its part of the noise. With weights $p_i$ of the
m clients that send something it is

$$u_i \leftarrow \mathrm{clip}_C(u_i) + n_i, \qquad
n_i \sim \mathcal N\Big(0, \Big(\frac{z\,C \max_j p_j}{p_i \sqrt m}\Big)^2 I\Big),$$

so that the mean $\sum_i p_i u_i$ has noise of standard deviation $z\,C \max_j p_j$: z times the
most that one client's update can contribute to it. With equal weights that is z C / m. What
ε that is over the rounds of a run, `fedjax_ecgr.transforms.epsilon` says. All entries are sent, as
noise is in all of them, whatever was left out before.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.transforms.base import Sending, Transform
from fedjax_ecgr.transforms.clip import shortened
from fedjax_ecgr.types import Array, PyTree


def dp_fedavg(clip_norm: float | Array = 1.0, noise_multiplier: float | Array = 1.0) -> Transform:
    """Returns the transform that clips an update and adds the client's part of the noise.

    Args:
      clip_norm: C > 0, in the units of the parameters.
      noise_multiplier: z ≥ 0, the mean's noise over what one client can contribute to it.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> dp_fedavg(noise_multiplier=0.5).hyperparameters["clip_norm"]
      1.0
    """
    check.number("clip_norm", clip_norm, low=0, low_open=True)
    check.number("noise_multiplier", noise_multiplier, low=0)
    numbers = {"clip_norm": clip_norm, "noise_multiplier": noise_multiplier}
    return Transform("dp_fedavg", numbers, lambda params: (), _update, wire=lambda update: update)


def _update(update: PyTree, state: PyTree, sending: Sending) -> tuple[PyTree, PyTree]:
    numbers, weight = sending.hyperparameters, sending.weight
    update = shortened(update, numbers["clip_norm"])
    share = sending.largest_weight / jnp.where(weight > 0, weight, 1)
    deviation = numbers["noise_multiplier"] * numbers["clip_norm"] * share
    deviation = deviation / jnp.sqrt(jnp.maximum(sending.participants, 1))
    leaves, structure = jax.tree.flatten(update)
    keys = jax.random.split(sending.key, max(len(leaves), 1))
    noisy = [
        u + deviation.astype(u.dtype) * jax.random.normal(key, u.shape, u.dtype)
        for u, key in zip(leaves, keys, strict=False)
    ]
    return jax.tree.unflatten(structure, noisy), state
