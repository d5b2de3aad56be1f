r"""Gaussian noise (as in Blanchard et al., arXiv 1703.02757; Xie, Koyejo, Gupta, arXiv 1802.10116).

Each malicious client sends noise of its own in every round, alone or on top of its update:

$$u \leftarrow \sigma\xi \quad\text{or}\quad u \leftarrow u + \sigma\xi, \qquad
\xi \sim \mathcal N(0, I).$$

One draw from the client's key serves all coordinates, in the order of the tree's leaves.
"""

from functools import partial

import jax
from jax.flatten_util import ravel_pytree

from fedjax_ecgr import check
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.types import Array, PyTree


def gaussian(*, std: float | Array = 1.0, added: bool = False) -> Attack:
    """Returns the attack that sends noise.

    Args:
      std: σ ≥ 0, the standard deviation of each coordinate.
      added: whether the noise is added to the update that was trained, or stands in its place.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> gaussian(std=10.0, added=True).hyperparameters
      {'std': 10.0}
    """
    check.number("std", std, low=0)
    return Attack("gaussian", {"std": std}, alone=partial(_alone, added))


def _alone(added: bool, update: PyTree, attacking: Attacking) -> PyTree:
    flat, unflatten = ravel_pytree(update)
    std = attacking.hyperparameters["std"].astype(flat.dtype)
    noise = std * jax.random.normal(attacking.key, flat.shape, flat.dtype)
    return unflatten(flat + noise if added else noise)
