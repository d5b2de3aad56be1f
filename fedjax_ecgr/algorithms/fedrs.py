r"""FedRS (Li and Zhan, "FedRS: Federated Learning with Restricted Softmax for Label Distribution
Non-IID Data", KDD 2021).

A client without examples of a label only ever pushes that label's output down. FedRS scales the
outputs of such labels in training,

$$\ell_i = -\log \frac{e^{f_y}}{\sum_c e^{s_c f_c}}, \qquad
s_c = \begin{cases} 1 & n_c > 0 \\ \alpha & n_c = 0,\end{cases}$$

$n_c$ being the client's examples of label c. The server averages as in FedAvg; the model is
evaluated without scales.
"""

from typing import Unpack

import jax.numpy as jnp
import optax

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


def fedrs(*, alpha: float | Array = 0.5, **common: Unpack[Common]) -> Algorithm:
    """Returns FedRS; a run's own loss is not used, its labels' cross-entropy is.

    Args:
      alpha: α in [0, 1], scale of the outputs of labels that a client has no examples of; 1 is
        FedAvg.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedrs(alpha=0.9).hyperparameters["alpha"]
      0.9
    """
    check.number("alpha", alpha, low=0, high=1)
    return algorithm("fedrs", common, own={"alpha": alpha}, client=_client)


def _client(client: Client, local: Local) -> Outcome:
    scales = jnp.where(client.label_counts() > 0, 1, local.hyperparameters["alpha"])

    def restricted(outputs: Array, labels: Array) -> Array:
        scaled = outputs * jnp.broadcast_to(scales, outputs.shape)
        return optax.softmax_cross_entropy_with_integer_labels(scaled, labels)

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        return batch.loss(params, batch_stats, per_example=restricted)

    trained = client.train(objective=objective)
    return Outcome(Upload(trained.update), local.state, trained)
