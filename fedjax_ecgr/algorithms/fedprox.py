r"""FedProx (Li et al., arXiv 1812.06127).

Each client descends on its loss plus a proximal term that ties it to where it started,

$$\ell_i(w) + \frac{\mu}{2}\,\|w - w_t\|^2,$$

and the server averages as in FedAvg.
"""

from typing import Unpack

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Batch,
    Client,
    Common,
    Local,
    Outcome,
    Seen,
    Upload,
    algorithm,
)
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
    return algorithm("fedprox", common, own={"mu": mu}, client=_client)


def _client(client: Client, local: Local) -> Outcome:
    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        return loss + proximal_term(local.hyperparameters["mu"], params, local.params), seen

    trained = client.train(objective=objective)
    return Outcome(Upload(trained.update), local.state, trained)


def proximal_term(mu: Array, params: PyTree, centre: PyTree) -> Array:
    """Returns (μ/2) ‖w − centre‖²."""
    squares = jax.tree.map(lambda w, start: jnp.sum(jnp.square(w - start)), params, centre)
    return mu / 2 * sum(jax.tree.leaves(squares))
