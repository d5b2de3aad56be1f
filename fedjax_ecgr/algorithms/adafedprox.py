r"""FedProx whose μ follows the training loss (Li et al., arXiv 1812.06127, section 5.3.2, C.3.3).

Clients descend on their loss plus $\frac{\mu_t}{2}\|w - w_t\|^2$, as in FedProx. The server has
$L_t$, the cohort's mean training loss $\sum_i p_i \ell_i$ over its local steps, without that term.
It binds clients more tightly when the loss rises, and less after it has fallen for a while: with
$s_t$ the rounds in a row in which it fell,

$$s_t = \begin{cases} s_{t-1} + 1 & L_t < L_{t-1} \\ 0 & \text{else} \end{cases}, \qquad
\mu_{t+1} = \begin{cases} \max(0, \mu_t - \delta) & s_t \ge P \\
\min(1, \mu_t + \delta) & s_t = 0 \\ \mu_t & \text{else} \end{cases}.$$

The first loss counts as a fall. The bound by 1 is not in the paper, whose largest μ it is. A round
in which nobody takes part changes nothing.
"""

from typing import NamedTuple, Unpack

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


class History(NamedTuple):
    """What the server remembers: μ_t, L_{t−1}, and s_{t−1} (int32); scalars."""

    mu: Array
    loss: Array
    falls: Array


def adafedprox(
    *,
    mu: float | Array = 0.5,
    mu_step: float | Array = 0.1,
    patience: float | Array = 5,
    **common: Unpack[Common],
) -> Algorithm:
    """Returns FedProx with an adaptive proximal term.

    Args:
      mu: μ_0 in [0, 1]; to make it hard, the paper starts from 0 on unlike clients and from 1 on
        alike ones.
      mu_step: δ in [0, 1], by how much μ moves; 0 is FedProx.
      patience: P ≥ 1, how many rounds in a row the loss must fall before μ does.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> adafedprox(mu=1.0).hyperparameters["mu"]
      1.0
    """
    check.number("mu", mu, low=0, high=1)
    check.number("mu_step", mu_step, low=0, high=1)
    check.number("patience", patience, low=1)
    return algorithm(
        "adafedprox",
        common,
        own={"mu": mu, "mu_step": mu_step, "patience": patience},
        init_server=_unknown,
        broadcast=lambda history: history.mu,
        client=_client,
        server=_server,
    )


def _unknown(first: First) -> History:
    dtype = jnp.result_type(*jax.tree.leaves(first.params))
    # μ_0 may be traced where a sweep varies it: −1 stands for it until the first round is over
    return History(jnp.full((), -1, dtype), jnp.full((), jnp.inf, dtype), jnp.zeros((), jnp.int32))


def _known(mu: Array, first: Array) -> Array:
    return jnp.where(mu < 0, first, mu)


def _client(client: Client, local: Local) -> Outcome:
    mu = _known(local.received, local.hyperparameters["mu"])

    def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        loss, seen = batch.loss(params, batch_stats)
        return loss + proximal_term(mu, params, local.params), seen

    trained = client.train(objective=objective)
    return Outcome(Upload(trained.update, weighted=trained.loss), local.state, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    numbers, before, loss = server.hyperparameters, server.state, upload.weighted
    mu, step = _known(before.mu, numbers["mu"]), numbers["mu_step"]
    falls = jnp.where(loss < before.loss, before.falls + 1, 0)
    waited = falls.astype(mu.dtype) >= numbers["patience"]
    mu = jnp.where(falls == 0, jnp.minimum(1, mu + step), jnp.where(waited, mu - step, mu))
    after = History(jnp.maximum(0, mu), loss, falls)
    anybody = server.present.any()
    return upload.update, jax.tree.map(lambda new, old: jnp.where(anybody, new, old), after, before)
