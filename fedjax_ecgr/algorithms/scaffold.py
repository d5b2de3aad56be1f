r"""SCAFFOLD (Karimireddy et al., arXiv 1910.06378, option II).

The server keeps a control variate $c$, each client its own $c_i$; all start at zero. After every
optimiser step the client corrects its drift, and at the end it re-estimates its gradient from how
far it came, *before* any regulation:

$$w \leftarrow w - \eta_t (c - c_i), \qquad c_i^+ = c_i - c + \frac{w_t - w_\tau}{\tau_i \eta_t a},
\qquad c \leftarrow c + \frac{|S|}{N}\,\frac{1}{|S|}\sum_{i\in S} (c_i^+ - c_i).$$

$w$ is averaged as in FedAvg. A client that is not in the cohort keeps its $c_i$ untouched.

The normaliser's $a$ is 1 in the paper, which has no momentum. Heavy-ball momentum $m$ makes a
client move further than $\eta_t$ times its gradients,

$$a = \frac{1}{\tau}\sum_{j=1}^{\tau} \frac{1 - m^j}{1 - m}
    = \frac{1}{1-m}\Big(1 - \frac{m\,(1 - m^\tau)}{\tau\,(1-m)}\Big)$$

times as far (FedNova's $\|a\|_1/\tau$). With $a = 1$ the control variates then stand for $a$ times
the gradient, a known cause of diverging runs; dividing by $a$ makes $c$ the clients' mean gradient
again, with the same corrected steps at the fixed point. `normaliser` chooses.
"""

from typing import Unpack

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Common,
    First,
    Local,
    Outcome,
    Server,
    Upload,
    algorithm,
)
from fedjax_ecgr.types import Array, PyTree


def _heavy_ball(momentum: Array, num_steps: Array) -> Array:
    left = 1 - momentum
    return (1 - momentum * (1 - momentum**num_steps) / (num_steps * left)) / left


NORMALISERS = {
    "plain": lambda momentum, num_steps: jnp.ones_like(momentum),
    "momentum": _heavy_ball,
}


def scaffold(*, normaliser: str = "plain", **common: Unpack[Common]) -> Algorithm:
    """Returns SCAFFOLD, option II.

    With momentum, the paper's normaliser ("plain", the default, as published) makes the control
    variates larger than the gradients they stand for, which can diverge; "momentum" divides by how
    far heavy-ball momentum really goes. Without momentum both are equal.

    Args:
      normaliser: `plain`, or `momentum` to divide out how much further momentum goes.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown normaliser or option, or a number out of range.

    Example:
      >>> scaffold(normaliser="momentum").name
      'scaffold'
    """
    amplification = check.known("normaliser", normaliser, NORMALISERS)
    if normaliser == "momentum" and "optimizer" in common:
        raise check.InputError(
            "normaliser: 'momentum' is not allowed with an optimizer of your own, it divides out "
            "the momentum of SGD"
        )

    def client(client: Client, local: Local) -> Outcome:
        rate, momentum = local.learning_rate, local.hyperparameters["momentum"]
        control, own = local.received, local.state

        def correct(params: PyTree) -> PyTree:
            return jax.tree.map(lambda w, c, c_i: w - rate * (c - c_i), params, control, own)

        trained = client.train(correct=correct)
        reach = trained.num_steps * rate * amplification(momentum, trained.num_steps)
        stood = reach == 0  # a step size of 0 tells nothing of the gradient
        change = jax.tree.map(
            lambda start, end, c: jnp.where(
                stood, 0, (start - end) / jnp.where(stood, 1, reach) - c
            ),
            local.params,
            trained.params,
            control,
        )
        after = jax.tree.map(jnp.add, own, change)
        return Outcome(Upload(trained.update, uniform=change), after, trained)

    return algorithm(
        "scaffold",
        common,
        init_server=_zeros,
        init_client=_zeros,
        broadcast=lambda control: control,
        client=client,
        server=_server,
    )


def _zeros(first: First) -> PyTree:
    return jax.tree.map(jnp.zeros_like, first.params)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    control = jax.tree.map(
        lambda c, change: c + server.participation * change, server.state, upload.uniform
    )
    return upload.update, control
