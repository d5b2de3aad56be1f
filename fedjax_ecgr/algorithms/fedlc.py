r"""FedLC (Zhang et al., "Federated Learning with Label Distribution Skew via Logits Calibration",
ICML 2022, arXiv 2209.00189).

Where a client has few examples of a label, its loss pushes that label's output down for all others.
FedLC lowers each output in training by a margin that is larger for rare labels,

$$\ell_i = -\log \frac{e^{f_y - \tau n_y^{-1/4}}}{\sum_c e^{f_c - \tau n_c^{-1/4}}},$$

$n_c$ being the client's examples of label c. A label it has none of is left out of the sum. The
server averages as in FedAvg; the model is evaluated without margins.
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


def fedlc(*, tau: float | Array = 1.0, **common: Unpack[Common]) -> Algorithm:
    """Returns FedLC; a run's own loss is not used, its labels' cross-entropy is.

    Args:
      tau: τ ≥ 0, scale of the margins, in units of the model's outputs.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedlc(tau=0.5).hyperparameters["tau"]
      0.5
    """
    check.number("tau", tau, low=0)
    return algorithm("fedlc", common, own={"tau": tau}, client=_client)


def _client(client: Client, local: Local) -> Outcome:
    counts = client.label_counts()
    margins = local.hyperparameters["tau"].astype(counts.dtype) * jnp.maximum(counts, 1) ** -0.25

    def calibrated(outputs: Array, labels: Array) -> Array:
        lowered = outputs - jnp.broadcast_to(margins.astype(outputs.dtype), outputs.shape)
        held = jnp.where(jnp.broadcast_to(counts, outputs.shape) > 0, lowered, -jnp.inf)
        # a row that only fills a batch up may have a label of nobody's: it is masked
        own = jnp.take_along_axis(lowered, labels[..., None], axis=-1)[..., 0]
        return jax.nn.logsumexp(held, axis=-1) - own

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        return batch.loss(params, batch_stats, per_example=calibrated)

    trained = client.train(objective=objective)
    return Outcome(Upload(trained.update), local.state, trained)
