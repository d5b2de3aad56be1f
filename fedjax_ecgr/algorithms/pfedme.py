r"""pFedMe (T. Dinh, Tran, Nguyen, arXiv 2006.08848).

The server minimises the clients' Moreau envelopes in place of their losses,

$$F_i(w) = \min_\theta\; \ell_i(\theta) + \frac{\lambda}{2}\,\|\theta - w\|^2, \qquad
\nabla F_i(w) = \lambda\,(w - \theta_i(w)),$$

with $\theta_i(w)$ the minimiser: parameters that are the client's own, tied to w. In each local
step, on the examples of one batch, K steps of size α come near to it and then w moves:

$$\theta \leftarrow \theta - \alpha\,(\nabla \ell_i(\theta) + \lambda(\theta - w)) \text{ K times},
\qquad w \leftarrow w - \eta_t\, \lambda\,(w - \theta).$$

Each round starts with both at $w_t$; from batch to batch θ goes on from where it was, as in the
authors' code. What w moved is regulated and sent, and the server goes a part of the way,

$$w_{t+1} = (1 - \beta)\, w_t + \beta \sum_i p_i w_i,$$

β the server's learning rate ($p_i$ is $1/|S|$ in the paper). A client is judged by its last θ. Only
the clients of the cohort train; in the paper all do, and the cohort sends. With momentum m, w moves
with η λ / (1 − m): that should not be much above 1.
"""

from typing import Unpack

import jax

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


def pfedme(
    *,
    lam: float | Array = 15.0,
    inner_rate: float | Array = 0.05,
    inner_steps: int = 5,
    **common: Unpack[Common],
) -> Algorithm:
    """Returns pFedMe, personal models from the clients' Moreau envelopes.

    Args:
      lam: λ > 0, how tightly a client's own parameters are tied to the global ones.
      inner_rate: α > 0, step size of a client's own parameters; α λ ≥ 2 diverges.
      inner_steps: K, their steps on each batch.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> pfedme(lam=20.0).hyperparameters["lam"]
      20.0
    """
    check.number("lam", lam, low=0, low_open=True)
    check.number("inner_rate", inner_rate, low=0, low_open=True)
    check.count("inner_steps", inner_steps)

    def client(client: Client, local: Local) -> Outcome:
        lam, rate = (local.hyperparameters[name] for name in ("lam", "inner_rate"))

        def objective(params: PyTree, carried: PyTree, batch: Batch) -> tuple[Array, Seen]:
            centre = jax.lax.stop_gradient(params)

            def descend(theta: PyTree, _: None) -> tuple[PyTree, Seen]:
                gradient, seen = jax.grad(batch.loss, has_aux=True)(theta, carried["model"])
                theta = jax.tree.map(
                    lambda t, g, w: t - rate * (g + lam * (t - w)), theta, gradient, centre
                )
                return theta, seen

            theta, seen = jax.lax.scan(descend, carried["own"], None, length=inner_steps)
            seen = jax.tree.map(lambda x: x[-1], seen)
            after = {"model": seen.batch_stats, "own": theta}
            return proximal_term(lam, params, theta), seen._replace(batch_stats=after)

        begin = {"model": client.batch_stats, "own": local.params}
        trained = client.train(batch_stats=begin, objective=objective)
        after = trained.batch_stats
        own = (after["own"], after["model"])
        return Outcome(Upload(trained.update), own, trained, after["model"])

    return algorithm(
        "pfedme",
        common,
        own={"lam": lam, "inner_rate": inner_rate},
        init_client=lambda first: (first.params, first.batch_stats),
        client=client,
        personal=lambda client, local: local.state,
    )
