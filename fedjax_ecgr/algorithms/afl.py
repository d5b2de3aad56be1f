r"""Agnostic federated learning (Mohri, Sivek, Suresh, arXiv 1902.00146), with local steps.

Which mixture of the clients will count is not known, so the worst one does: the server seeks

$$\min_w \max_{\lambda \in \Lambda} \sum_{i=1}^N \lambda_i F_i(w), \qquad
\Lambda = \{\lambda \ge 0,\; {\textstyle\sum_i \lambda_i = 1}\},$$

by descent in w and projected ascent in λ, from $\lambda_i = 1/N$:

$$w_{t+1} = w_t - \frac{\sum_{i\in S} \lambda_i u_i}{\sum_{i\in S} \lambda_i}, \qquad \lambda
\leftarrow \Pi_\Lambda\Big(\lambda + \gamma \frac{N}{|S|} \sum_{i\in S} F_i(w_t)\,e_i\Big).$$

With all clients and one full step each that is the paper's, which reports the mean of all w, here
the last one. In the place of its gradients stand updates, and where a cohort S takes part its
losses, scaled up, as in DRFA (Deng et al., arXiv 2102.12660). If all λ in S are 0, w stays.
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
    First,
    Local,
    Outcome,
    Server,
    Upload,
    algorithm,
)
from fedjax_ecgr.types import Array, PyTree


def afl(*, mixture_learning_rate: float | Array = 0.1, **common: Unpack[Common]) -> Algorithm:
    """Returns agnostic federated learning, for the mixture of clients that is served worst.

    Args:
      mixture_learning_rate: γ ≥ 0, step size of λ, in units of 1 / loss; with 0 it averages evenly
        over clients.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> afl(mixture_learning_rate=0.01).name
      'afl'
    """
    check.number("mixture_learning_rate", mixture_learning_rate, low=0)
    return algorithm(
        "afl",
        common,
        own={"mixture_learning_rate": mixture_learning_rate},
        init_server=_even,
        broadcast=lambda mixture: mixture,
        client=_client,
        server=_server,
    )


def _even(first: First) -> Array:
    dtype = jnp.result_type(*jax.tree.leaves(first.params))
    return jnp.full(first.num_clients, 1 / first.num_clients, dtype)


def _client(client: Client, local: Local) -> Outcome:
    loss = client.loss(local.params)
    trained = client.train()
    # the engine averages with p; a client without examples has none, and sends nothing
    share = local.received[client.number] / jnp.where(client.weight > 0, client.weight, 1)
    update = jax.tree.map(lambda u: share * u, trained.update)
    return Outcome(Upload(update, weighted=share, each=loss), local.state, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    total = upload.weighted
    direction = jax.tree.map(lambda u: u / jnp.where(total > 0, total, 1), upload.update)
    rate = server.hyperparameters["mixture_learning_rate"] / server.participation
    raised = server.state.at[server.clients].add(rate * upload.each)
    with jax.numpy_dtype_promotion("standard"):  # optax's projection needs it
        mixture = optax.projections.projection_simplex(raised)
    return direction, mixture
