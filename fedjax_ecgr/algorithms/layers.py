"""The two parts of a model, for algorithms that share one of them: its head, the last layer, and
its body, all before it.

A part is the parameters with None, a pytree of no leaves, in place of what belongs to the other:
so it is stored, regulated and sent as any pytree is, at its own size.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import Batch, Client, First, Seen, Server, Trained, Upload
from fedjax_ecgr.types import Array, PyTree


class Parts(NamedTuple):
    """Both parts of the parameters."""

    body: PyTree
    head: PyTree


def parts(params: PyTree, head: PyTree) -> Parts:
    """Returns both parts of `params`.

    Args:
      params: the parameters, or anything like them.
      head: like them, a Python bool a leaf: whether it belongs to the head (`Client.head`).

    Example:
      >>> parts({"fc1": 1.0, "fc2": 2.0}, {"fc1": False, "fc2": True})
      Parts(body={'fc1': 1.0, 'fc2': None}, head={'fc1': None, 'fc2': 2.0})
    """
    return Parts(
        jax.tree.map(lambda is_head, x: None if is_head else x, head, params),
        jax.tree.map(lambda is_head, x: x if is_head else None, head, params),
    )


def merge(part: PyTree, rest: PyTree) -> PyTree:
    """Returns the parameters of which `part` holds some leaves, and `rest` all others.

    Args:
      part: one part.
      rest: the other part, or whole parameters.

    Example:
      >>> merge({"fc1": 1.0, "fc2": None}, {"fc1": 0.0, "fc2": 2.0})
      {'fc1': 1.0, 'fc2': 2.0}
    """
    return jax.tree.map(lambda x, y: y if x is None else x, part, rest, is_leaf=_is_none)


def first_parts(name: str, first: First) -> Parts:
    """Returns both parts of the first parameters.

    Args:
      name: of the algorithm, for the message.
      first: what the run starts from.

    Raises:
      InputError: if the model names no head, or is nothing but a head.
    """
    marks = jax.tree.leaves(first.head)
    if not any(marks):
        raise check.InputError(
            f"{name}: model: one that names no head is not allowed (Model.head, the names of its "
            "last layer's parameters)"
        )
    if all(marks):
        raise check.InputError(
            f"{name}: model: one that is nothing but its head is not allowed, there must be layers "
            "before it"
        )
    return parts(first.params, first.head)


def train_body(client: Client, body: PyTree, head: PyTree) -> Trained:
    """Trains a body under a head that stays."""

    def objective(body: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
        return batch.loss(merge(head, body), batch_stats)

    return client.train(body, objective=objective)


def step_along_part(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    """Returns the averaged update of the part that was sent, zero elsewhere, and the state."""
    return merge(upload.update, jax.tree.map(jnp.zeros_like, server.params)), server.state


def _is_none(x: PyTree) -> bool:
    return x is None
