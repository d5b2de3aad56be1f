r"""FedLESAM (Fan et al., arXiv 2405.18890): global perturbations, estimated locally.

As in FedSAM each local step takes its gradient away from the parameters, but along the way the
*global* model went since this client last had it, and so at no further computation:

$$\hat w = w + \rho\,\frac{w^{old}_i - w_t}{\|w^{old}_i - w_t\|}, \qquad
w \leftarrow w - \eta_t \nabla \ell_i(\hat w), \qquad w^{old}_i \leftarrow w_t.$$

In its first round a client perturbs nothing. The server averages as in FedAvg. A client keeps P
numbers.
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
    First,
    Local,
    Outcome,
    Seen,
    Upload,
    algorithm,
)
from fedjax_ecgr.algorithms.fedsam import perturbed
from fedjax_ecgr.types import Array, PyTree


def fedlesam(*, rho: float | Array = 0.05, **common: Unpack[Common]) -> Algorithm:
    """Returns FedLESAM.

    Args:
      rho: ρ ≥ 0, how far the gradient is taken from the parameters, in their units; 0 is FedAvg.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedlesam(rho=0.1).hyperparameters["rho"]
      0.1
    """
    check.number("rho", rho, low=0)
    return algorithm("fedlesam", common, own={"rho": rho}, init_client=_first, client=_client)


def _first(first: First) -> PyTree:
    return {"had": jnp.zeros((), bool), "last": first.params}


def _client(client: Client, local: Local) -> Outcome:
    had, last = local.state["had"], local.state["last"]
    back = jax.tree.map(lambda old, w: jnp.where(had, old - w, 0), last, local.params)

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        return batch.loss(perturbed(params, back, local.hyperparameters["rho"]), batch_stats)

    trained = client.train(objective=objective)
    state = {"had": jnp.ones((), bool), "last": local.params}
    return Outcome(Upload(trained.update), state, trained)
