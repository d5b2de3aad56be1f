"""Pad and crop: an image moved by a few pixels, up or down and left or right."""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.augmentations.base import Augmentation
from fedjax_ecgr.types import Array, Hyperparameters

MODES = {"black": "0 as images are stored", "reflect": "the image mirrored at its edge"}


def crop(padding: int = 4, mode: str = "black") -> Augmentation:
    """Returns the augmentation that pads an image and cuts one of its size out, at random.

    Each of the (2 · padding + 1)² places is as likely. Four black pixels are what He et al. (arXiv
    1512.03385, section 4.2) do on CIFAR-10, four mirrored ones what NIID-Bench does.

    Args:
      padding: pixels at each side, at least 1.
      mode: what they are: `black`, 0 as images are stored; or `reflect`, the image mirrored at its
        edge.

    Raises:
      InputError: if `padding` is no whole number of at least 1, or `mode` is not known.

    Example:
      >>> crop(padding=2, mode="reflect").name
      'crop'
    """
    check.count("padding", padding)
    check.known("mode", mode, MODES)

    def apply(key: Array, images: Array, hyperparameters: Hyperparameters) -> Array:
        del hyperparameters
        rows, height, width, _ = images.shape
        if mode == "reflect" and padding >= min(height, width):
            raise check.InputError(
                f"crop: padding: {padding} is not allowed, {height}x{width} images are mirrored by "
                f"{min(height, width) - 1} pixels at most"
            )
        sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        padded = jnp.pad(images, sides, mode="constant" if mode == "black" else "reflect")
        top, left = jax.random.randint(key, (2, rows), 0, 2 * padding + 1, jnp.int32)

        def cut(image: Array, top: Array, left: Array) -> Array:
            zero = jnp.zeros((), jnp.int32)
            return jax.lax.dynamic_slice(image, (top, left, zero), images.shape[1:])

        return jax.vmap(cut)(padded, top, left)

    return Augmentation("crop", {}, apply)
