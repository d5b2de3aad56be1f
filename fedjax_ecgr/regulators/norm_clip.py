r"""Norm clipping: the plain sum of the steps, no longer than a bound.

$$u = s \min\!\Big(1, \frac{C}{\|s\|_2}\Big), \qquad s = \sum_\lambda d_\lambda.$$

As a regulator it acts on what the local steps come to; the transform `clip` acts on whatever an
algorithm sends.
"""

from typing import Any

import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.regulators.base import Given, Regulator
from fedjax_ecgr.regulators.identity import identity
from fedjax_ecgr.transforms.clip import shortened
from fedjax_ecgr.types import Array, PyTree


def norm_clip(max_norm: float | Array = 1.0) -> Regulator:
    """Returns the regulator that shortens an update to `max_norm` where it is longer.

    Its info is the update's length before, scalar.

    Args:
      max_norm: C > 0, in the units of the parameters.

    Raises:
      InputError: if `max_norm` is not above 0.

    Example:
      >>> regulator = norm_clip(max_norm=2.5)
      >>> state = regulator.init({"w": jnp.zeros(2)}, max_steps=1)
      >>> update, norm = regulator.finalize(state, {"w": jnp.array([3.0, 4.0])})
      >>> update["w"].tolist(), float(norm)
      ([1.5, 2.0], 5.0)
    """
    check.number("max_norm", max_norm, low=0, low_open=True)
    own = {"max_norm": max_norm}
    plain = identity()

    def finalize(state: PyTree, total: PyTree, given: Given | None = None) -> tuple[PyTree, Any]:
        del state
        norm = optax.tree.norm(total)
        numbers = own if given is None else given.hyperparameters
        return shortened(total, jnp.asarray(numbers["max_norm"], norm.dtype)), norm

    return plain._replace(name="norm_clip", hyperparameters=own, finalize=finalize)
