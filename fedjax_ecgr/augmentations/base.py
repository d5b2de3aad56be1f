"""The contract of an augmentation: a pure function of a key and a batch, inside the local step.

It sees images as they are stored, before they are normalised, so that 0 is black where they are
uint8. Evaluation sees none, and neither does what an algorithm computes over all examples of a
client (`Client.loss`, `Client.gradient`).
"""

from collections.abc import Callable
from typing import NamedTuple

from fedjax_ecgr.types import Array, Hyperparameters


class Augmentation(NamedTuple):
    """What changes images at random while a client trains.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers.
      apply: `(key, images [B, H, W, C], hyperparameters) -> images`, of the same shape and dtype;
        each image has its own draw.
    """

    name: str
    hyperparameters: Hyperparameters
    apply: Callable[[Array, Array, Hyperparameters], Array]
