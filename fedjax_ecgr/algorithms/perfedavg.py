r"""Per-FedAvg (Fallah, Mokhtari, Ozdaglar, arXiv 2002.07948): MAML over clients.

The global parameters are made such that one gradient step of a client makes a good model of them:
clients descend on

$$F_i(w) = \ell_i\big(w - \alpha \nabla \ell_i(w)\big), \qquad
\nabla F_i(w) = \big(I - \alpha \nabla^2 \ell_i(w)\big)\, \nabla \ell_i(\tilde w), \quad
\tilde w = w - \alpha \nabla \ell_i(w),$$

with $\tilde w$ and the Hessian from one half of a batch (its 1st, 3rd, … example) and
$\nabla \ell_i(\tilde w)$ from the other; a batch of one example is both halves. The paper's two
ways to do without the Hessian: FO leaves it out; HF replaces its product with a vector by a
difference of two gradients. Here that product is exact, at much the same cost: the derivative
of a gradient along one direction.

The update is regulated, sent and averaged as in FedAvg. A client is judged by the parameters that
steps of size α from the global ones lead to, each down the gradient over all its examples.
"""

from functools import partial
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

VARIANTS = {"hf": "with the Hessian's product with a vector", "fo": "first order: without it"}


def perfedavg(
    *,
    inner_rate: float | Array = 0.05,
    variant: str = "hf",
    steps: int = 1,
    **common: Unpack[Common],
) -> Algorithm:
    """Returns Per-FedAvg, global parameters from which a gradient step is enough.

    Args:
      inner_rate: α > 0, size of the step that makes a client's own model.
      variant: `hf` with the Hessian's product with a vector, or `fo`, first order, without it.
      steps: how many gradient steps make the model that a client is judged by.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown variant or option, or a number out of range.

    Example:
      >>> perfedavg(variant="fo", inner_rate=0.01).hyperparameters["inner_rate"]
      0.01
    """
    check.number("inner_rate", inner_rate, low=0, low_open=True)
    check.known("variant", variant, VARIANTS)
    check.count("steps", steps)

    def client(client: Client, local: Local) -> Outcome:
        rate = local.hyperparameters["inner_rate"]

        def objective(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
            first, second = _halves(batch.mask)
            descend = jax.value_and_grad(partial(batch.loss, mask=first), has_aux=True)
            (loss, seen), gradient = descend(params, batch_stats)
            if variant == "fo":
                gradient = jax.lax.stop_gradient(gradient)
            own = _step(rate, params, gradient)
            total = loss * batch.targets.astype(loss.dtype)
            outer, _ = batch.loss(own, batch_stats, mask=second)
            return outer, Seen(seen.batch_stats, total, batch.targets)

        trained = client.train(objective=objective)
        return Outcome(Upload(trained.update), local.state, trained)

    def personal(client: Client, local: Local) -> tuple[PyTree, PyTree]:
        rate = local.hyperparameters["inner_rate"]
        own = jax.lax.fori_loop(
            0, steps, lambda _, own: _step(rate, own, client.gradient(own)), local.params
        )
        return own, client.batch_stats

    numbers = {"inner_rate": inner_rate}
    return algorithm("perfedavg", common, own=numbers, client=client, personal=personal)


def _step(rate: Array, params: PyTree, gradient: PyTree) -> PyTree:
    return jax.tree.map(lambda w, g: w - rate * g, params, gradient)


def _halves(mask: Array) -> tuple[Array, Array]:
    """Returns the masks of a batch's 1st, 3rd, … and 2nd, 4th, … example."""
    odd = jnp.arange(mask.shape[0], dtype=jnp.int32) % 2 == 1
    second = mask & odd
    return mask & ~odd, jnp.where(second.any(), second, mask)
