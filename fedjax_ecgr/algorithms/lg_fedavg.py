r"""LG-FedAvg (Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, arXiv 2001.01523).

The other way around than FedPer: each client has a representation, the body of the model, of its
own, and the head on top of it is shared. From $(\phi_i, h_t)$ a client trains both together, sends
what the head moved, and keeps the body with its statistics,

$$(\phi_i, h_{i,\tau}) \leftarrow \text{SGD on } \ell_i(\phi, h) \text{ from } (\phi_i, h_t), \qquad
h_{t+1} = h_t - \sum_i p_i u_i^{h}.$$

Bodies start as the first global one; the authors' runs begin where some rounds of FedAvg ended. The
regulator sees the head's steps alone. A client is judged by $(\phi_i, h_t)$.
"""

from typing import Unpack

from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Common,
    First,
    Local,
    Outcome,
    Upload,
    algorithm,
)
from fedjax_ecgr.algorithms.layers import first_parts, merge, parts, step_along_part
from fedjax_ecgr.types import PyTree


def lg_fedavg(**common: Unpack[Common]) -> Algorithm:
    """Returns LG-FedAvg, bodies of the clients' own under a shared head.

    The model must name its head; a run with one that does not raises `InputError`.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> lg_fedavg(learning_rate=0.1).name
      'lg_fedavg'
    """
    return algorithm(
        "lg_fedavg",
        common,
        init_client=_init_client,
        download=lambda first: first_parts("lg_fedavg", first).head,
        client=_client,
        server=step_along_part,
        personal=_personal,
    )


def _init_client(first: First) -> PyTree:
    return first_parts("lg_fedavg", first).body, first.batch_stats


def _client(client: Client, local: Local) -> Outcome:
    trained = client.train(
        *_personal(client, local), regulate=lambda params: parts(params, client.head).head
    )
    own = (parts(trained.params, client.head).body, trained.batch_stats)
    return Outcome(Upload(trained.update), own, trained, ())


def _personal(client: Client, local: Local) -> tuple[PyTree, PyTree]:
    """Returns the client's own body under the global head, and its own statistics."""
    del client
    body, batch_stats = local.state
    return merge(body, local.params), batch_stats
