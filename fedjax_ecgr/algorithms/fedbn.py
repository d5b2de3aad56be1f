r"""FedBN (Li et al., arXiv 2102.07623): normalisation stays with the client.

FedAvg over all parameters but those of normalisation layers; these, and the layers' statistics,
are each client's own, and never sent:

$$w_{t+1} = w_t - \sum_{i\in S} p_i u_i \text{ elsewhere}, \qquad
v_i \leftarrow v_{i,\tau} \text{ in normalisation.}$$

A parameter is of a normalisation layer where it stands in a layer that keeps statistics: beside or
below them in the names, such as ("bn1", "scale") with ("bn1", "mean"). A client is judged by the
global model with its own normalisation. Of a model without normalisation it is FedAvg.
"""

from typing import Unpack

import jax

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
from fedjax_ecgr.algorithms.layers import Parts, merge, parts, step_along_part
from fedjax_ecgr.types import PyTree


def fedbn(**common: Unpack[Common]) -> Algorithm:
    """Returns FedBN, FedAvg with normalisation layers of each client's own.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedbn(learning_rate=0.1).name
      'fedbn'
    """
    return algorithm(
        "fedbn",
        common,
        init_client=_first,
        download=lambda first: _split(first.params, first.batch_stats).body,
        client=_client,
        server=step_along_part,
        personal=_own,
    )


def _split(params: PyTree, batch_stats: PyTree) -> Parts:
    """Returns what is shared as the body, and normalisation as the head."""
    statistics = jax.tree.leaves_with_path(batch_stats)
    # a statistic's last name is its own, those before it are the layer's, unless it has but one
    layers = [path[:-1] or path for path, _ in statistics if path]
    of_norms = jax.tree.map_with_path(
        lambda path, _: any(path[: len(layer)] == layer for layer in layers), params
    )
    return parts(params, of_norms)


def _first(first: First) -> PyTree:
    own = _split(first.params, first.batch_stats).head
    return {"params": own, "batch_stats": first.batch_stats}


def _own(client: Client, local: Local) -> tuple[PyTree, PyTree]:
    return merge(local.state["params"], local.params), local.state["batch_stats"]


def _client(client: Client, local: Local) -> Outcome:
    start, batch_stats = _own(client, local)
    trained = client.train(
        start, batch_stats, regulate=lambda params: _split(params, batch_stats).body
    )
    own = _split(trained.params, batch_stats).head
    state = {"params": own, "batch_stats": trained.batch_stats}
    return Outcome(Upload(trained.update), state, trained, batch_stats=())
