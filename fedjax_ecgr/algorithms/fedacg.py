r"""FedACG (Kim, Kim, Han, arXiv 2201.03172): accelerated client gradient.

The server has momentum as in FedAvgM, and clients start where it is about to carry the model. They
are held there by a proximal term,

$$\hat w_t = w_t - \eta_s \lambda v_t, \qquad
\ell_i(w) + \frac{\mu}{2}\,\|w - \hat w_t\|^2,$$

with $u_i$ the steps from $\hat w_t$ on, and the server ends near where they do:

$$v_{t+1} = \lambda v_t + \sum_{i\in S_t} p_i u_i, \qquad w_{t+1} = w_t - \eta_s v_{t+1},
\qquad v_0 = 0.$$

The paper's momentum m is −v, its β is μ here, and its $\eta_s$ is 1. It sends $\hat w_t$ alone;
here v is broadcast beside w, and counted in the bytes that clients receive.
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
    Server,
    Upload,
    algorithm,
)
from fedjax_ecgr.algorithms.fedprox import proximal_term
from fedjax_ecgr.types import Array, PyTree


def fedacg(
    *, acceleration: float | Array = 0.85, mu: float | Array = 0.01, **common: Unpack[Common]
) -> Algorithm:
    """Returns FedACG, clients that start from where the server's momentum leads.

    Args:
      acceleration: λ in [0, 1), how much of the server's direction is left in the next round.
      mu: μ ≥ 0, strength of the proximal term; with λ = 0 it is FedProx.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedacg(acceleration=0.5).hyperparameters["acceleration"]
      0.5
    """
    check.number("acceleration", acceleration, low=0, high=1, high_open=True)
    check.number("mu", mu, low=0)
    return algorithm(
        "fedacg",
        common,
        own={"acceleration": acceleration, "mu": mu},
        init_server=_zeros,
        broadcast=lambda velocity: velocity,
        client=_client,
        server=_server,
    )


def _zeros(first: First) -> PyTree:
    return jax.tree.map(jnp.zeros_like, first.params)


def _client(client: Client, local: Local) -> Outcome:
    numbers = local.hyperparameters
    reach = numbers["server_learning_rate"] * numbers["acceleration"]
    ahead = jax.tree.map(lambda w, v: w - reach * v, local.params, local.received)

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        return loss + proximal_term(numbers["mu"], params, ahead), seen

    trained = client.train(ahead, objective=objective)
    return Outcome(Upload(trained.update), local.state, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    acceleration = server.hyperparameters["acceleration"]
    velocity = jax.tree.map(lambda v, u: acceleration * v + u, server.state, upload.update)
    return velocity, velocity
