r"""Sign flipping (as in Li, Xu, Chen, Giannakis, Ling, RSA, AAAI 2019, arXiv 1811.03761).

Each malicious client trains as it should and sends its update the wrong way round,

$$u \leftarrow -\sigma u.$$
"""

import jax

from fedjax_ecgr import check
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.types import Array, PyTree


def sign_flip(*, scale: float | Array = 1.0) -> Attack:
    """Returns the attack that sends every update with the opposite sign.

    Args:
      scale: σ ≥ 0, by how much it is larger besides.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> sign_flip(scale=4.0).hyperparameters
      {'scale': 4.0}
    """
    check.number("scale", scale, low=0)
    return Attack("sign_flip", {"scale": scale}, alone=_alone)


def _alone(update: PyTree, attacking: Attacking) -> PyTree:
    scale = attacking.hyperparameters["scale"]
    return jax.tree.map(lambda u: -scale.astype(u.dtype) * u, update)
