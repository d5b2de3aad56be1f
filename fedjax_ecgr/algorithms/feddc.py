r"""FedDC (Gao et al., arXiv 2203.11751): local drift decoupled and corrected.

Client i keeps its drift $h_i$, the sum of how far its ends have gone from the global model, and a
control variate $c_i$. It descends on

$$\ell_i(w) + \frac{\alpha}{2}\,\|w + h_i - w_t\|^2 + \langle w, c - c_i\rangle, \qquad
h_i^+ = h_i + w_\tau - w_t, \qquad
c_i^+ = c_i - c + \frac{w_t - w_\tau}{\tau_i \eta_t a},$$

and the server, which keeps all clients' mean drift h and mean control variate c, moves the mean of
the ends by the drift:

$$h \leftarrow h + \frac{|S|}{N} \sum_{i\in S} p_i\,(h_i^+ - h_i), \quad
c \leftarrow c + \frac{|S|}{N} \sum_{i\in S} p_i\,(c_i^+ - c_i), \quad
w_{t+1} = w_t - \sum_{i\in S} p_i u_i + h.$$

All start at zero. Drift and control variates take the ends before any regulation. Where all clients
take part, the fixed point is the optimum of their loss, each weighed by its size.

The paper writes the last term with the last round's mean steps. Those contain the last correction
and alternate in sign, so here, as in its authors' program, it is SCAFFOLD's. So is h a mean over
all clients: over a round's it would carry the noise of who they are, divided by α. a, 1 without
momentum, is how much further momentum goes, see `scaffold.py`; 1 for a user's own optimiser.
"""

from collections.abc import Callable
from functools import partial
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
from fedjax_ecgr.algorithms.scaffold import NORMALISERS
from fedjax_ecgr.types import Array, PyTree

Normaliser = Callable[[Array, Array], Array]


def feddc(*, alpha: float | Array = 0.1, **common: Unpack[Common]) -> Algorithm:
    """Returns FedDC.

    Args:
      alpha: α ≥ 0, strength of the penalty on what drift leaves open.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> feddc(alpha=0.01).hyperparameters["alpha"]
      0.01
    """
    check.number("alpha", alpha, low=0)
    normaliser = NORMALISERS["plain" if "optimizer" in common else "momentum"]
    return algorithm(
        "feddc",
        common,
        own={"alpha": alpha},
        init_server=_zeros,
        init_client=_zeros,
        broadcast=lambda state: state["control"],
        client=partial(_client, normaliser),
        server=_server,
    )


def _zeros(first: First) -> PyTree:
    zeros = jax.tree.map(jnp.zeros_like, first.params)
    return {"drift": zeros, "control": zeros}


def _client(normaliser: Normaliser, client: Client, local: Local) -> Outcome:
    centre = jax.tree.map(jnp.subtract, local.params, local.state["drift"])
    shift = jax.tree.map(jnp.subtract, local.received, local.state["control"])

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        products = jax.tree.map(lambda w, s: jnp.sum(w * s), params, shift)
        penalty = proximal_term(local.hyperparameters["alpha"], params, centre)
        return loss + penalty + sum(jax.tree.leaves(products)), seen

    trained = client.train(objective=objective)
    steps, momentum = trained.num_steps, local.hyperparameters["momentum"]
    reach = steps * local.learning_rate * normaliser(momentum, steps)
    moved = jax.tree.map(jnp.subtract, trained.params, local.params)
    # a step size of 0 tells nothing of the gradient
    control = jax.tree.map(
        lambda m, c: jnp.where(reach > 0, -m / jnp.where(reach > 0, reach, 1) - c, 0),
        moved,
        local.received,
    )
    change = {"drift": moved, "control": control}
    own = jax.tree.map(jnp.add, local.state, change)
    return Outcome(Upload(trained.update, weighted=change), own, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    state = jax.tree.map(
        lambda s, change: s + server.participation * change, server.state, upload.weighted
    )
    anybody = server.present.any()
    direction = jax.tree.map(
        lambda u, h: jnp.where(anybody, u - h, 0), upload.update, state["drift"]
    )
    return direction, state
