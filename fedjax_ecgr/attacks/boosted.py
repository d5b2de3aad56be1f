r"""Model replacement (Bagdasaryan et al., arXiv 1807.00459; Bhagoji et al., arXiv 1811.12470).

A malicious client trains towards an aim of its own, here on flipped labels
($y \leftarrow C - 1 - y$), and boosts what came out,

$$u \leftarrow \lambda u.$$

With $\lambda = 1/p_i$ the server's average $\sum_j p_j u_j$ contains all of $u_i$: where others
hardly move, the global model becomes the attacker's.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.attacks.label_flip import flipped
from fedjax_ecgr.types import Array, PyTree


def boosted(*, factor: float | Array | None = None, flip_labels: bool = True) -> Attack:
    """Returns the attack that sends updates so large that they outvote the others' in the mean.

    Args:
      factor: λ > 0, by how much an update is larger; by default one over the client's weight.
      flip_labels: whether it is trained on flipped labels, or as by an honest client.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> boosted(factor=10.0).hyperparameters
      {'factor': 10.0}
    """
    numbers = {}
    if factor is not None:
        check.number("factor", factor, low=0, low_open=True)
        numbers["factor"] = factor
    return Attack("boosted", numbers, labels=flipped if flip_labels else None, alone=_alone)


def _alone(update: PyTree, attacking: Attacking) -> PyTree:
    weight = attacking.weights
    factor = attacking.hyperparameters.get("factor", 1 / jnp.where(weight > 0, weight, 1))
    return jax.tree.map(lambda u: factor.astype(u.dtype) * u, update)
