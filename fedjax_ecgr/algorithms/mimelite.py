r"""MimeLite (Karimireddy et al., arXiv 2008.03606, algorithm 2), with SGD with momentum.

Clients mimic the server's optimiser: they use its momentum s, but do not change it,

$$w \leftarrow w - \eta_t \big((1 - \beta)\,g + \beta s\big), \qquad g = \nabla \ell_i(w),$$

and the server, which averages as in FedAvg, moves s by the clients' whole gradients where they
started:

$$s \leftarrow (1 - \beta) \sum_{i\in S} p_i \nabla F_i(w_t) + \beta s, \qquad s_0 = 0.$$

β is the clients' `momentum`; an `optimizer` of the user's is not used. The paper weighs clients
evenly. A weight decay is added to g and to the whole gradients. Steps are some 1 − β times as long
as heavy-ball momentum's, so a learning rate 1 / (1 − β) times FedAvg's is the like of it.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
import optax

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
from fedjax_ecgr.types import PyTree


def mimelite(**common: Unpack[Common]) -> Algorithm:
    """Returns MimeLite, local SGD with the server's momentum.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> mimelite(momentum=0.5).name
      'mimelite'
    """
    return algorithm(
        "mimelite",
        common,
        init_server=zeros,
        broadcast=lambda momentum: momentum,
        client=_client,
        server=move_momentum,
    )


def _client(client: Client, local: Local) -> Outcome:
    trained = client.train(optimizer=mimicking(local))
    return Outcome(Upload(trained.update, weighted=whole_gradient(client, local)), (), trained)


def zeros(first: First) -> PyTree:
    """Returns the server's first momentum."""
    return jax.tree.map(jnp.zeros_like, first.params)


def whole_gradient(client: Client, local: Local) -> PyTree:
    """Returns ∇F_i(w_t), over all of a client's examples, with the weight decay."""
    decay = local.hyperparameters["weight_decay"]
    return jax.tree.map(lambda g, w: g + decay * w, client.gradient(local.params), local.params)


def mimicking(local: Local) -> optax.GradientTransformation:
    """Returns the local optimiser: the server's, its momentum held."""
    rate, beta = local.learning_rate, local.hyperparameters["momentum"]
    decay = local.hyperparameters["weight_decay"]

    def update(gradient: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        steps = jax.tree.map(
            lambda g, s, w: -rate * ((1 - beta) * (g + decay * w) + beta * s),
            gradient,
            local.received,
            params,
        )
        return steps, state

    return optax.GradientTransformation(lambda params: (), update)


def move_momentum(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    """Returns the averaged update, and the next momentum; of a round without clients the last."""
    beta = server.hyperparameters["momentum"]
    moved = jax.tree.map(
        lambda s, g: jnp.where(server.present.any(), (1 - beta) * g + beta * s, s),
        server.state,
        upload.weighted,
    )
    return upload.update, moved
