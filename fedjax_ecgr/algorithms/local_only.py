r"""Every client alone: the model that a client has if it never takes part in anything.

Client i goes on from its own parameters whenever it is asked, and sends nothing,

$$v_i \leftarrow v_i - \sum_\lambda d_\lambda, \qquad w_{t+1} = w_t,$$

all of them from the same first ones. It is the line that a federated method has to beat to be worth
its messages. There is no update, so that a regulator has nothing to regulate and the server nothing
to step along.
"""

from typing import Unpack

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Local,
    Outcome,
    Server,
    Upload,
    algorithm,
)
from fedjax_ecgr.algorithms.common import LocalCommon
from fedjax_ecgr.types import PyTree


def local_only(**common: Unpack[LocalCommon]) -> Algorithm:
    """Returns training of every client alone, by its own data.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`; no transforms or
        aggregator.

    Raises:
      InputError: for an unknown option, a number out of range, transforms or an aggregator.

    Example:
      >>> local_only(learning_rate=0.1).name
      'local_only'
    """
    for part in ("transforms", "aggregator"):
        if common.get(part):
            raise check.InputError(f"local_only: {part}: not allowed, clients send nothing")
    return algorithm(
        "local_only",
        {**common},
        init_client=lambda first: (first.params, first.batch_stats),
        download=lambda first: (),
        client=_client,
        server=_server,
        personal=lambda client, local: local.state,
    )


def _client(client: Client, local: Local) -> Outcome:
    params, batch_stats = local.state
    trained = client.train(params, batch_stats, regulate=False)
    return Outcome(Upload(()), (trained.params, trained.batch_stats), trained, ())


def _server(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    del upload
    return jax.tree.map(jnp.zeros_like, server.params), server.state
