r"""Ditto (Li, Hu, Beirami, Smith, arXiv 2012.04221).

The global parameters are trained as in FedAvg. Beside them each client of the cohort trains
parameters of its own, which a proximal term ties to the global ones that it received:

$$v_i \leftarrow \text{SGD on } \ell_i(v) + \frac{\lambda}{2}\,\|v - w_t\|^2 \text{ from } v_i.$$

λ = 0 is training alone, a large λ the global model. $v_i$ starts at $w_0$, waits while the client
is not asked, and is what the client is judged by. Both trainings are of the run's local epochs,
each with batches of its own; the regulator sees the first, whose update is sent.
"""

from typing import Unpack

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
from fedjax_ecgr.algorithms.fedprox import proximal_term
from fedjax_ecgr.types import Array, PyTree


def ditto(*, lam: float | Array = 1.0, **common: Unpack[Common]) -> Algorithm:
    """Returns Ditto, personal models tied to a global one by a proximal term.

    Args:
      lam: λ ≥ 0, how tightly; the paper's values are 0.1, 1 and 2.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> ditto(lam=0.1).hyperparameters["lam"]
      0.1
    """
    check.number("lam", lam, low=0)
    return algorithm(
        "ditto",
        common,
        own={"lam": lam},
        init_client=lambda first: (first.params, first.batch_stats),
        client=_client,
        personal=lambda client, local: local.state,
    )


def _client(client: Client, local: Local) -> Outcome:
    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        return loss + proximal_term(local.hyperparameters["lam"], params, local.params), seen

    trained = client.train()
    params, batch_stats = local.state
    own = client.train(params, batch_stats, objective=objective, regulate=False, stream=1)
    return Outcome(Upload(trained.update), (own.params, own.batch_stats), trained)
