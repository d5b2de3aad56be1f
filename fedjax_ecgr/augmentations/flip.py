"""Horizontal flips: an image, or its mirror image."""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.augmentations.base import Augmentation
from fedjax_ecgr.types import Array, Hyperparameters


def flip(share: float | Array = 0.5) -> Augmentation:
    """Returns the augmentation that mirrors an image, left to right, or leaves it.

    Args:
      share: in [0, 1], how likely an image is mirrored.

    Raises:
      InputError: if `share` is out of range.

    Example:
      >>> flip().hyperparameters
      {'share': 0.5}
    """
    check.number("share", share, low=0, high=1)
    return Augmentation("flip", {"share": share}, _apply)


def _apply(key: Array, images: Array, hyperparameters: Hyperparameters) -> Array:
    mirrored = jax.random.uniform(key, images.shape[:1]) < hyperparameters["share"]
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
