r"""FedDyn (Acar et al., arXiv 2111.04263): dynamic regularisation.

Each client descends on its loss plus a linear term and a proximal one,

$$\ell_i(w) - \langle g_i, w\rangle + \frac{\alpha}{2}\,\|w - w_t\|^2, \qquad
g_i \leftarrow g_i - \alpha\,(w_\tau - w_t),$$

so that where all of them stand still the sum of their gradients does: the fixed point is the
optimum of the clients' mean loss, not of a mixture of their ends. The server moves the mean of the
ends by what the clients' terms have come to,

$$h \leftarrow h - \frac{\alpha}{N} \sum_{i\in S} (w_{i,\tau} - w_t), \qquad
w_{t+1} = w_t - \sum_{i\in S} p_i u_i - \frac{1}{\alpha} h.$$

All start at zero. $g_i$ and h take the ends before any regulation. The paper averages with equal
weights $p_i = 1/|S|$ and has no momentum in its local steps.
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


def feddyn(*, alpha: float | Array = 0.1, **common: Unpack[Common]) -> Algorithm:
    """Returns FedDyn.

    Args:
      alpha: α > 0, strength of the regularisation; 1/α is the server's step along h.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> feddyn(alpha=0.01).hyperparameters["alpha"]
      0.01
    """
    check.number("alpha", alpha, low=0, low_open=True)
    return algorithm(
        "feddyn",
        common,
        own={"alpha": alpha},
        init_server=_zeros,
        init_client=_zeros,
        client=_client,
        server=_server,
    )


def _zeros(first: First) -> PyTree:
    return jax.tree.map(jnp.zeros_like, first.params)


def _client(client: Client, local: Local) -> Outcome:
    alpha = local.hyperparameters["alpha"]

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        products = jax.tree.map(lambda g, w: jnp.sum(g * w), local.state, params)
        linear = sum(jax.tree.leaves(products))
        return loss - linear + proximal_term(alpha, params, local.params), seen

    trained = client.train(objective=objective)
    moved = jax.tree.map(jnp.subtract, trained.params, local.params)
    own = jax.tree.map(lambda g, m: g - alpha * m, local.state, moved)
    return Outcome(Upload(trained.update, uniform=moved), own, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    alpha = server.hyperparameters["alpha"]
    h = jax.tree.map(
        lambda h, moved: h - alpha * server.participation * moved, server.state, upload.uniform
    )
    anybody = server.present.any()  # else the model stays
    return jax.tree.map(lambda u, h: jnp.where(anybody, u + h / alpha, 0), upload.update, h), h
