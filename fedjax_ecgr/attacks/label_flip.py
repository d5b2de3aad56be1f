r"""Label flipping (as in Fang, Cao, Jia, Gong, USENIX Security 2020, arXiv 1911.11815).

Malicious clients train on falsified labels, and are honest otherwise. With C classes

$$y \leftarrow C - 1 - y.$$
"""

from fedjax_ecgr.attacks.base import Attack
from fedjax_ecgr.types import Array, Hyperparameters


def label_flip() -> Attack:
    """Returns the attack that trains on falsified labels.

    Example:
      >>> label_flip().name
      'label_flip'
    """
    return Attack("label_flip", {}, labels=flipped)


def flipped(labels: Array, num_classes: int, hyperparameters: Hyperparameters) -> Array:
    """Returns C − 1 − y for each label y."""
    del hyperparameters
    return num_classes - 1 - labels
