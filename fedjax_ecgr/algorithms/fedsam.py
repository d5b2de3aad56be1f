r"""FedSAM (Qu et al., arXiv 2206.02618; Caldarola et al., arXiv 2203.11834): flat minima.

Each local step takes the gradient where the loss of its batch is about largest nearby,

$$g = \nabla \ell_i(w), \qquad \hat w = w + \rho\,\frac{g}{\|g\|}, \qquad
w \leftarrow w - \eta_t \nabla \ell_i(\hat w),$$

both gradients on the same batch, and the server averages as in FedAvg. A step takes twice the
computation.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
import optax

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


def fedsam(*, rho: float | Array = 0.05, **common: Unpack[Common]) -> Algorithm:
    """Returns FedSAM, local steps by sharpness-aware minimisation.

    Args:
      rho: ρ ≥ 0, how far the gradient is taken from the parameters, in their units; 0 is FedAvg.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedsam(rho=0.1).hyperparameters["rho"]
      0.1
    """
    check.number("rho", rho, low=0)
    return algorithm("fedsam", common, own={"rho": rho}, client=_client)


def _client(client: Client, local: Local) -> Outcome:
    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        gradient, seen = jax.grad(batch.loss, has_aux=True)(params, batch_stats)
        far = perturbed(params, jax.lax.stop_gradient(gradient), local.hyperparameters["rho"])
        return batch.loss(far, batch_stats)[0], seen

    trained = client.train(objective=objective)
    return Outcome(Upload(trained.update), local.state, trained)


def perturbed(params: PyTree, direction: PyTree, rho: Array) -> PyTree:
    """Returns w + ρ d / ‖d‖; w where d vanishes."""
    norm = optax.tree.norm(direction)
    reach = jnp.where(norm > 0, rho / jnp.where(norm > 0, norm, 1), 0)
    return jax.tree.map(lambda w, d: w + reach * d, params, direction)
