r"""FedExP (Jhunjhunwala, Wang, Joshi, arXiv 2301.09604).

The server goes the further, the more the clients' updates differ, as methods of projection onto
convex sets extrapolate: averaging shortens updates that point to different sides,

$$\eta_g = \max\Big(1,\; \frac{\sum_i p_i \|u_i\|^2}{2\,(\|\bar u\|^2 + \varepsilon)}\Big),
\qquad \bar u = \sum_i p_i u_i, \qquad w_{t+1} = w_t - \eta_s \eta_g \bar u.$$

$\eta_s$ is 1 in the paper. Steps of that kind swing around the goal: the paper judges the mean of
the last two $w$, here the last one is reported. What transforms do to updates after the client has
told its norm is in $\bar u$ alone.
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


def fedexp(*, epsilon: float | Array = 1e-3, **common: Unpack[Common]) -> Algorithm:
    """Returns FedExP, FedAvg whose server extrapolates.

    Args:
      epsilon: ε > 0, in units of a squared update: keeps η_g small where updates vanish.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedexp(epsilon=0.1).hyperparameters["epsilon"]
      0.1
    """
    check.number("epsilon", epsilon, low=0, low_open=True)
    return algorithm("fedexp", common, own={"epsilon": epsilon}, client=_client, server=_server)


def _client(client: Client, local: Local) -> Outcome:
    trained = client.train()
    squared_norm = optax.tree.norm(trained.update, squared=True)
    return Outcome(Upload(trained.update, weighted=squared_norm), local.state, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    of_mean = optax.tree.norm(upload.update, squared=True)
    ratio = upload.weighted / (2 * (of_mean + server.hyperparameters["epsilon"]))
    extrapolation = jnp.maximum(1, ratio)
    return jax.tree.map(lambda u: extrapolation * u, upload.update), server.state
