r"""FedProx (Li et al., arXiv 1812.06127).

Each client descends on its loss plus a proximal term that ties it to where it started,

$$\ell_i(w) + \frac{\mu}{2}\,\|w - w_t\|^2,$$

and the server averages as in FedAvg.
"""

from typing import Unpack

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import Algorithm, Common, Local, algorithm
from fedjax_ecgr.types import Array, PyTree


def fedprox(*, mu: float | Array = 0.1, **common: Unpack[Common]) -> Algorithm:
    """Returns FedProx.

    Args:
      mu: μ ≥ 0, strength of the proximal term; 0 is FedAvg.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedprox(mu=0.01).hyperparameters["mu"]
      0.01
    """
    check.number("mu", mu, low=0)
    return algorithm("fedprox", common, own={"mu": mu}, objective=_proximal_term)


def _proximal_term(params: PyTree, local: Local) -> Array:
    squares = jax.tree.map(lambda w, start: jnp.sum(jnp.square(w - start)), params, local.params)
    return local.hyperparameters["mu"] / 2 * sum(jax.tree.leaves(squares))
