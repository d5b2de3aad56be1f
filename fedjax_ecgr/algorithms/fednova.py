r"""FedNova (Wang et al., arXiv 2007.07481).

Clients that take more steps move further; FedNova averages what each moved *per step* and then goes
as many steps as the clients did on average:

$$w_{t+1} = w_t - \Big(\sum_i p_i \tau_i\Big) \sum_i p_i \frac{u_i}{\tau_i}.$$
"""

from typing import Unpack

import jax

from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Common,
    Local,
    Outcome,
    Server,
    Upload,
    algorithm,
)
from fedjax_ecgr.types import PyTree


def fednova(**common: Unpack[Common]) -> Algorithm:
    """Returns FedNova, normalised averaging over clients of unequal τ_i.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fednova(learning_rate=0.1).name
      'fednova'
    """
    return algorithm("fednova", common, client=_client, server=_server)


def _client(client: Client, local: Local) -> Outcome:
    trained = client.train()
    per_step = jax.tree.map(lambda u: u / trained.num_steps, trained.update)
    return Outcome(Upload(per_step, weighted=trained.num_steps), local.state, trained)


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    mean_steps = upload.weighted
    return jax.tree.map(lambda u: mean_steps * u, upload.update), server.state
