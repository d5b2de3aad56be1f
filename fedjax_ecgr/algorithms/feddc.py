r"""FedDC (Gao et al., arXiv 2203.11751): local drift decoupled and corrected.

Client i keeps a drift $h_i$, how far its ends have gone from the global model in all its rounds,
and its last mean step, $g_i = (w_\tau - w_t) / (\tau_i \eta_t)$, of which the server knows the
cohort's average g. It descends on

$$\ell_i(w) + \frac{\alpha}{2}\,\|w + h_i - w_t\|^2 + \langle w, g_i - g\rangle, \qquad
h_i \leftarrow h_i + (w_\tau - w_t),$$

and the server averages drift-corrected ends:

$$w_{t+1} = \sum_{i\in S} p_i\,(w_t - u_i + h_i^+).$$

All start at zero. Drift and steps take the ends before any regulation.
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
    return algorithm(
        "feddc",
        common,
        own={"alpha": alpha},
        init_server=_zeros,
        init_client=lambda first: {"drift": _zeros(first), "step": _zeros(first)},
        broadcast=lambda mean_step: mean_step,
        client=_client,
        server=_server,
    )


def _zeros(first: First) -> PyTree:
    return jax.tree.map(jnp.zeros_like, first.params)


def _client(client: Client, local: Local) -> Outcome:
    drift, step = local.state["drift"], local.state["step"]
    centre = jax.tree.map(jnp.subtract, local.params, drift)
    shift = jax.tree.map(jnp.subtract, step, local.received)

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        products = jax.tree.map(lambda w, s: jnp.sum(w * s), params, shift)
        penalty = proximal_term(local.hyperparameters["alpha"], params, centre)
        return loss + penalty + sum(jax.tree.leaves(products)), seen

    trained = client.train(objective=objective)
    moved = jax.tree.map(jnp.subtract, trained.params, local.params)
    reach = trained.num_steps * local.learning_rate
    step = jax.tree.map(
        lambda m: jnp.where(reach > 0, m / jnp.where(reach > 0, reach, 1), 0), moved
    )
    drift = jax.tree.map(jnp.add, drift, moved)
    update = jax.tree.map(jnp.subtract, trained.update, drift)
    return Outcome(Upload(update, uniform=step), {"drift": drift, "step": step}, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    return upload.update, upload.uniform
