r"""Mime (Karimireddy et al., arXiv 2008.03606, algorithm 2), with SGD with momentum.

MimeLite (`mimelite.py`), whose local gradients are corrected by how the client's batch differed
from the cohort where all started:

$$g = \nabla \ell_i(w) - \nabla \ell_i(w_t) + c, \qquad c = \sum_{i\in S} p_i \nabla F_i(w_t),$$

the first two on the same batch. c is of the round's own cohort: its clients send their whole
gradients before anybody trains, a second exchange of messages in the round.
"""

from typing import Unpack

import jax
import jax.numpy as jnp

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
from fedjax_ecgr.algorithms.mimelite import mimicking, move_momentum, whole_gradient, zeros
from fedjax_ecgr.types import Array, PyTree


def mime(**common: Unpack[Common]) -> Algorithm:
    """Returns Mime, local SGD with the server's momentum and corrected gradients.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> mime(momentum=0.5).name
      'mime'
    """
    return algorithm(
        "mime",
        common,
        init_server=zeros,
        broadcast=lambda momentum: momentum,
        gather=whole_gradient,
        client=_client,
        server=move_momentum,
    )


def _client(client: Client, local: Local) -> Outcome:
    decay = local.hyperparameters["weight_decay"]
    # the optimiser adds the decay of w; c has that of w_t
    mean = jax.tree.map(lambda c, w: c - decay * w, local.gathered, local.params)

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        there, _ = jax.grad(batch.loss, has_aux=True)(local.params, batch_stats)
        shift = jax.tree.map(lambda c, g: jax.lax.stop_gradient(c - g), mean, there)
        products = jax.tree.map(lambda s, w: jnp.sum(s * w), shift, params)
        return loss + sum(jax.tree.leaves(products)), seen

    trained = client.train(objective=objective, optimizer=mimicking(local))
    return Outcome(Upload(trained.update, weighted=local.gathered), (), trained)
