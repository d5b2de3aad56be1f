r"""FedRep (Collins, Hassani, Mokhtari, Shakkottai, arXiv 2102.07078).

As in FedPer the body of the model, the representation, is shared, and its head is each client's
own; but a client first fits its head to the representation that it received, for many epochs, and
only then moves the representation, under that head:

$$h_i \leftarrow \text{SGD on } \ell_i(\phi_t, \cdot) \text{ from } h_i, \qquad
\phi_{i,\tau} \leftarrow \text{SGD on } \ell_i(\cdot, h_i) \text{ from } \phi_t, \qquad
\phi_{t+1} = \phi_t - \sum_i p_i u_i^{\phi}.$$

The body is trained for the run's local epochs, on batches other than the head's, and the regulator
sees its steps. A client is judged by $(\phi_t, h_i)$.
"""

from typing import Unpack

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
from fedjax_ecgr.algorithms.fedper import own_head
from fedjax_ecgr.algorithms.layers import first_parts, merge, parts, step_along_part, train_body
from fedjax_ecgr.types import Array, PyTree


def fedrep(*, head_epochs: int = 10, **common: Unpack[Common]) -> Algorithm:
    """Returns FedRep, a shared representation under heads that are fitted to it first.

    The model must name its head; a run with one that does not raises `InputError`.

    Args:
      head_epochs: passes over its examples for which a client trains its head; 10 in the paper.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedrep(head_epochs=5).name
      'fedrep'
    """
    check.count("head_epochs", head_epochs)

    def client(client: Client, local: Local) -> Outcome:
        body = parts(local.params, client.head).body

        def of_head(head: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
            return batch.loss(merge(head, body), batch_stats)

        head = client.train(
            local.state, objective=of_head, regulate=False, epochs=head_epochs, stream=1
        ).params

        trained = train_body(client, body, head)
        return Outcome(Upload(trained.update), head, trained)

    return algorithm(
        "fedrep",
        common,
        init_client=lambda first: first_parts("fedrep", first).head,
        download=lambda first: first_parts("fedrep", first).body,
        client=client,
        server=step_along_part,
        personal=own_head,
    )
