r"""MOON (Li, He, Song, arXiv 2103.16257): model-contrastive federated learning.

What the model's last layer is given, z, is pulled towards what the global model makes of the same
inputs, and pushed away from what the client's own last model made of them:

$$\ell_i(w) - \mu \log \frac{e^{\cos(z, z_{glob})/T}}{e^{\cos(z, z_{glob})/T} +
e^{\cos(z, z_{prev})/T}},$$

with $z_{glob}$ by $w_t$ and $z_{prev}$ by the parameters that the client's local steps last ended
at, the first global ones before. The server averages as in FedAvg. The paper puts a projection head
before the last layer; here z is what the last layer of any model is given (`Model.features`). A
client keeps P numbers.
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


def moon(
    *, mu: float | Array = 1.0, temperature: float | Array = 0.5, **common: Unpack[Common]
) -> Algorithm:
    """Returns MOON.

    Args:
      mu: μ ≥ 0, weight of the contrastive term; 0 is FedAvg.
      temperature: T > 0, of the cosines.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> moon(mu=5.0).hyperparameters["temperature"]
      0.5
    """
    check.number("mu", mu, low=0)
    check.number("temperature", temperature, low=0, low_open=True)
    own = {"mu": mu, "temperature": temperature}
    return algorithm(
        "moon", common, own=own, init_client=lambda first: first.params, client=_client
    )


def _client(client: Client, local: Local) -> Outcome:
    numbers = local.hyperparameters

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        z = batch.features(params, batch_stats)
        near = _cosines(z, batch.features(local.params, batch_stats)) / numbers["temperature"]
        far = _cosines(z, batch.features(local.state, batch_stats)) / numbers["temperature"]
        terms = jnp.where(batch.mask, jax.nn.softplus(far - near), 0)
        count = jnp.maximum(batch.mask.sum(), 1).astype(terms.dtype)
        return loss + numbers["mu"] * terms.sum() / count, seen

    trained = client.train(objective=objective)
    return Outcome(Upload(trained.update), trained.params, trained)


def _cosines(a: Array, b: Array) -> Array:
    """Returns the cosines of the rows, [B]; 0, without a gradient, where a row vanishes."""
    squares = jnp.sum(a * a, axis=1) * jnp.sum(b * b, axis=1)
    there = squares > 0
    return jnp.where(there, jnp.sum(a * b, axis=1) / jnp.sqrt(jnp.where(there, squares, 1)), 0)
