r"""FedALA (Zhang, Hua, Wang, Song, Xue, Ma, Guan, arXiv 2212.01197): adaptive local aggregation.

A client starts from the global body and a head between its own, where its last training ended, and
the global one: entry by entry as weights say, which it learns first, with the rest still,

$$\hat h_i = h_i + (h_t - h_i) \odot W_i, \qquad
W_i \leftarrow \mathrm{clip}\big(W_i - \eta_W\, \nabla_{\hat h}\, \ell_i(\phi_t, \hat h_i) \odot
(h_t - h_i),\ 0,\ 1\big),$$

one step a batch, from where they were. Then it trains all parameters and sends where it ended,

$$w_{t+1} = \sum_i p_i \big((\phi_t, \hat h_i) - u_i\big).$$

$W_i$ starts at 1, so that a client starts its first round from the global model. In its second the
weights are learned for some epochs (the paper: until they converge), from then on for one. They are
those of the model's last layer, the paper's p = 1, and learned on all examples (there on 80 %). The
regulator sees the steps that follow. A client is judged by $(\phi_t, \hat h_i)$, with weights
learned for the parameters at hand.
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
from fedjax_ecgr.algorithms.layers import first_parts, parts
from fedjax_ecgr.types import Array, PyTree


class Own(NamedTuple):
    """What a client keeps: h_i, W_i like it, and its rounds so far, 2 if there were more."""

    head: PyTree
    weights: PyTree
    rounds: Array


def fedala(
    *, weight_rate: float | Array = 1.0, first_epochs: int = 10, **common: Unpack[Common]
) -> Algorithm:
    """Returns FedALA, heads mixed of a client's own and the global one by weights it learns.

    The model must name its head; a run with one that does not raises `InputError`.

    Args:
      weight_rate: η_W ≥ 0, the step size of the weights; 1 in the paper, 0 is FedAvg.
      first_epochs: passes over its examples for which a client learns them the first time.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedala(weight_rate=0.5).hyperparameters["weight_rate"]
      0.5
    """
    check.number("weight_rate", weight_rate, low=0)
    check.count("first_epochs", first_epochs)

    def init_client(first: First) -> Own:
        head = first_parts("fedala", first).head
        return Own(head, jax.tree.map(jnp.ones_like, head), jnp.zeros((), jnp.int32))

    def fitted(client: Client, local: Local) -> Own:
        """Returns what the client keeps, its weights learned for the parameters at hand."""
        own = local.state

        def objective(weights: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
            return batch.loss(_mixture(own._replace(weights=weights), local.params), batch_stats)

        def epoch(_: Array, weights: PyTree) -> PyTree:
            return client.train(
                weights, objective=objective, correct=_clipped, regulate=False, epochs=1, stream=1,
                optimizer=optax.sgd(local.hyperparameters["weight_rate"]),
            ).params  # fmt: skip

        epochs = jnp.array([0, first_epochs, 1], jnp.int32)[own.rounds]
        return own._replace(weights=jax.lax.fori_loop(0, epochs, epoch, own.weights))

    def client(client: Client, local: Local) -> Outcome:
        own = fitted(client, local)
        start = _mixture(own, local.params)
        trained = client.train(start)
        update = jax.tree.map(lambda w, s, u: w - s + u, local.params, start, trained.update)
        head, rounds = parts(trained.params, client.head).head, jnp.minimum(own.rounds + 1, 2)
        return Outcome(Upload(update), Own(head, own.weights, rounds), trained)

    def personal(client: Client, local: Local) -> tuple[PyTree, PyTree]:
        return _mixture(fitted(client, local), local.params), client.batch_stats

    return algorithm(
        "fedala",
        common,
        own={"weight_rate": weight_rate},
        init_client=init_client,
        client=client,
        personal=personal,
    )


def _mixture(own: Own, params: PyTree) -> PyTree:
    """Returns the global parameters, their head mixed with the client's own."""

    def mixed(head: PyTree, weights: PyTree, shared: Array) -> Array:
        return shared if head is None else head + (shared - head) * weights

    return jax.tree.map(mixed, own.head, own.weights, params, is_leaf=lambda x: x is None)


def _clipped(weights: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.clip(x, 0, 1), weights)
