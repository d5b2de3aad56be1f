r"""FedPer (Arivazhagan, Aggarwal, Singh, Choudhary, arXiv 1912.00818).

The body of the model is shared, its head is each client's own: from $(\phi_t, h_i)$ a client trains
both together, sends what the body moved, and keeps the head,

$$\phi_{t+1} = \phi_t - \sum_i p_i u_i^{\phi}, \qquad
(\phi_{i,\tau}, h_i) \leftarrow \text{SGD on } \ell_i(\phi, h) \text{ from } (\phi_t, h_i).$$

Heads start as the first global one. The regulator sees the body's steps alone. A client is judged
by $(\phi_t, h_i)$. The head is the model's last layer (`Model.head`); the paper also keeps more.
"""

from typing import Unpack

from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Common,
    Local,
    Outcome,
    Upload,
    algorithm,
)
from fedjax_ecgr.algorithms.layers import first_parts, merge, parts, step_along_part
from fedjax_ecgr.types import PyTree


def fedper(**common: Unpack[Common]) -> Algorithm:
    """Returns FedPer, a shared body under heads of the clients' own.

    The model must name its head; a run with one that does not raises `InputError`.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedper(learning_rate=0.1).name
      'fedper'
    """
    return algorithm(
        "fedper",
        common,
        init_client=lambda first: first_parts("fedper", first).head,
        download=lambda first: first_parts("fedper", first).body,
        client=_client,
        server=step_along_part,
        personal=own_head,
    )


def _client(client: Client, local: Local) -> Outcome:
    trained = client.train(
        merge(local.state, local.params), regulate=lambda params: parts(params, client.head).body
    )
    return Outcome(Upload(trained.update), parts(trained.params, client.head).head, trained)


def own_head(client: Client, local: Local) -> tuple[PyTree, PyTree]:
    """Returns the global body under the client's own head, and the global statistics."""
    return merge(local.state, local.params), client.batch_stats
