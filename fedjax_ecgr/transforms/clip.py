r"""Clipping: an update no longer than a bound.

$$u \leftarrow u \min\!\Big(1, \frac{C}{\|u\|_2}\Big)$$

over the whole update (Pascanu et al., arXiv 1211.5063; of federated updates McMahan et al., arXiv
1710.06963).
"""

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.transforms.base import Sending, Transform
from fedjax_ecgr.types import Array, PyTree


def clip(max_norm: float | Array = 1.0) -> Transform:
    """Returns the transform that shortens an update to `max_norm` where it is longer.

    Args:
      max_norm: C > 0, in the units of the parameters.

    Raises:
      InputError: if `max_norm` is not above 0.

    Example:
      >>> clip(max_norm=5.0).hyperparameters["max_norm"]
      5.0
    """
    check.number("max_norm", max_norm, low=0, low_open=True)
    return Transform("clip", {"max_norm": max_norm}, lambda params: (), _update)


def _update(update: PyTree, state: PyTree, sending: Sending) -> tuple[PyTree, PyTree]:
    return shortened(update, sending.hyperparameters["max_norm"]), state


def shortened(update: PyTree, max_norm: Array) -> PyTree:
    """Returns the update, no longer than `max_norm`."""
    norm = optax.tree.norm(update)
    factor = jnp.where(norm > max_norm, max_norm / jnp.where(norm > 0, norm, 1), 1)
    return jax.tree.map(lambda u: u * factor, update)
