r"""APFL, adaptive personalised federated learning (Deng, Kamani, Mahdavi, arXiv 2003.13461).

A client is judged by a mixture of parameters of its own with the global ones,

$$\bar v_i = \alpha_i v_i + (1 - \alpha_i)\, w.$$

In each local step it moves both on the same examples: w, from $w_t$, as in FedAvg, and its own by
the gradient of the mixture's loss,

$$w \leftarrow w - \eta_t \nabla \ell_i(w), \qquad
v_i \leftarrow v_i - \eta_t\, \alpha_i \nabla \ell_i(\bar v_i).$$

What w moved is regulated and sent; $v_i$ stays, and starts at $w_0$. α = 0 is FedAvg, α = 1
training alone. If adaptive, $\alpha_i$ starts at α and takes one step at the start of each round of
the client, over all its examples, kept in [0, 1]:

$$\alpha_i \leftarrow \alpha_i - \eta_t\, \langle v_i - w_t, \nabla \ell_i(\bar v_i) \rangle.$$
"""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import optax

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
    Upload,
    algorithm,
)
from fedjax_ecgr.types import Array, PyTree


class Own(NamedTuple):
    """What a client keeps: v_i, the mixture's statistics, and α_i − α, `()` where that is fixed."""

    params: PyTree
    batch_stats: PyTree
    shift: PyTree


def apfl(
    *, alpha: float | Array = 0.5, adaptive: bool = False, **common: Unpack[Common]
) -> Algorithm:
    """Returns APFL, clients judged by mixtures of their own with the global parameters.

    Args:
      alpha: α in [0, 1], the share of a client's own parameters.
      adaptive: whether each client moves its own α down its gradient, once a round.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> apfl(alpha=0.25).hyperparameters["alpha"]
      0.25
    """
    check.number("alpha", alpha, low=0, high=1)

    def init_client(first: First) -> Own:
        dtype = jnp.result_type(*jax.tree.leaves(first.params))
        return Own(first.params, first.batch_stats, jnp.zeros((), dtype) if adaptive else ())

    def client(client: Client, local: Local) -> Outcome:
        own = local.state
        own = own._replace(shift=_descended(client, local)) if adaptive else own
        share = _share(local, own)

        def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
            loss, seen = batch.loss(params["shared"], batch_stats["shared"])
            mixed = _mixture(share, params["own"], jax.lax.stop_gradient(params["shared"]))
            own_loss, own_seen = batch.loss(mixed, batch_stats["own"])
            carried = {"shared": seen.batch_stats, "own": own_seen.batch_stats}
            return loss + own_loss, seen._replace(batch_stats=carried)

        trained = client.train(
            {"shared": local.params, "own": own.params},
            {"shared": client.batch_stats, "own": own.batch_stats},
            objective=objective,
            regulate=lambda params: params["shared"],
        )
        own = own._replace(params=trained.params["own"], batch_stats=trained.batch_stats["own"])
        return Outcome(Upload(trained.update), own, trained, trained.batch_stats["shared"])

    number = {"alpha": alpha}
    return algorithm(
        "apfl", common, own=number, init_client=init_client, client=client, personal=_personal
    )


def _mixture(share: Array, own: PyTree, shared: PyTree) -> PyTree:
    return jax.tree.map(lambda v, w: share * v + (1 - share) * w, own, shared)


def _share(local: Local, own: Own) -> Array:
    alpha = local.hyperparameters["alpha"]
    return alpha + own.shift if jax.tree.leaves(own.shift) else alpha


def _descended(client: Client, local: Local) -> Array:
    """Returns α_i − α after a step down the gradient of the mixture's loss."""
    own, share = local.state.params, _share(local, local.state)
    apart = jax.tree.map(jnp.subtract, own, local.params)
    slope = optax.tree.vdot(apart, client.gradient(_mixture(share, own, local.params)))
    moved = jnp.clip(share - local.learning_rate * slope, 0, 1)
    return moved - local.hyperparameters["alpha"]


def _personal(client: Client, local: Local) -> tuple[PyTree, PyTree]:
    own = local.state
    return _mixture(_share(local, own), own.params, local.params), own.batch_stats
