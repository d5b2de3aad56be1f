r"""q-FedAvg (Li, Sanjabi, Beirami, Smith, arXiv 1905.10497).

It descends on $\sum_i p_i F_i^{q+1} / (q+1)$: the larger q, the more a client counts that is served
badly. With $F_i$ the mean loss of $w_t$ over all the client's examples, and $L = 1/\eta_t$ in the
place of a Lipschitz constant,

$$\Delta_i = F_i^q L u_i, \qquad h_i = q F_i^{q-1} \|L u_i\|^2 + L F_i^q, \qquad
w_{t+1} = w_t - \frac{\sum_i p_i \Delta_i}{\sum_i p_i h_i}.$$

Clients send both divided by L. The paper samples clients by size and averages evenly, here as
everywhere the weights are $p_i$. Its clients have no momentum: with it $u_i$ is larger than the
steps that L stands for, and the server the more cautious.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Common,
    Local,
    Outcome,
    Server,
    Upload,
    algorithm,
)
from fedjax_ecgr.types import Array, PyTree

# what the authors add to every loss, for powers below 0 of a loss of 0
_LEAST_LOSS = 1e-10


def qfedavg(*, q: float | Array = 0.2, **common: Unpack[Common]) -> Algorithm:
    """Returns q-FedAvg, which evens out how well clients are served.

    Args:
      q: q ≥ 0, how much more a badly served client counts; 0 is FedAvg. The larger, the shorter are
        the server's steps.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> qfedavg(q=1.0).hyperparameters["q"]
      1.0
    """
    check.number("q", q, low=0)
    return algorithm("qfedavg", common, own={"q": q}, client=_client, server=_server)


def _client(client: Client, local: Local) -> Outcome:
    q, rate = local.hyperparameters["q"], local.learning_rate
    loss = client.loss(local.params) + _LEAST_LOSS
    trained = client.train()
    scaled = jax.tree.map(lambda u: loss**q * u, trained.update)
    squared_norm = optax.tree.norm(trained.update, squared=True)
    stood = rate == 0  # and so did the client
    curvature = jnp.where(stood, 0, squared_norm / jnp.where(stood, 1, rate))
    h = q * loss ** (q - 1) * curvature + loss**q
    return Outcome(Upload(scaled, weighted=h), local.state, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    h = jnp.where(server.present.any(), upload.weighted, 1)
    return jax.tree.map(lambda u: u / h, upload.update), server.state
