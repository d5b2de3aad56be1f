r"""FedBABU (Oh, Kim, Yun, arXiv 2106.06042).

The head of the model, its last layer, stays what it was drawn as, the same for all: clients train
the body under it and send what that moved,

$$\phi_{i,\tau} \leftarrow \text{SGD on } \ell_i(\cdot, h_0) \text{ from } \phi_t, \qquad
\phi_{t+1} = \phi_t - \sum_i p_i u_i^{\phi}.$$

A client is judged by both parts after its SGD has tuned them on its own examples, from
$(\phi_t, h_0)$; nothing of that is sent or kept. The regulator sees the body's steps.
"""

from typing import Unpack

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Common,
    Local,
    Outcome,
    Upload,
    algorithm,
)
from fedjax_ecgr.algorithms.layers import first_parts, merge, parts, step_along_part, train_body
from fedjax_ecgr.types import PyTree


def fedbabu(*, epochs: int = 5, **common: Unpack[Common]) -> Algorithm:
    """Returns FedBABU, a body trained under a head that nobody trains, and tuned before use.

    The model must name its head; a run with one that does not raises `InputError`.

    Args:
      epochs: passes over its examples that a client tunes both parts for.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedbabu(epochs=10).name
      'fedbabu'
    """
    check.count("epochs", epochs)

    def personal(client: Client, local: Local) -> tuple[PyTree, PyTree]:
        tuned = client.train(merge(local.state, local.params), epochs=epochs, regulate=False)
        return tuned.params, tuned.batch_stats

    return algorithm(
        "fedbabu",
        common,
        init_client=lambda first: first_parts("fedbabu", first).head,
        download=lambda first: first_parts("fedbabu", first).body,
        client=_client,
        server=step_along_part,
        personal=personal,
    )


def _client(client: Client, local: Local) -> Outcome:
    trained = train_body(client, parts(local.params, client.head).body, local.state)
    return Outcome(Upload(trained.update), local.state, trained)
