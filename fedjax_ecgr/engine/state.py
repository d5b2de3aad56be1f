"""What a run carries from round to round, and what clients get of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.algorithms import Algorithm, First, Local
from fedjax_ecgr.engine.client import Memories, Start
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.types import Array, PyTree


class ServerState(NamedTuple):
    """What the server keeps from round to round, by part.

    Attributes:
      algorithm: the algorithm's server state.
      optimizer: the server optimiser's; round 0 makes it anew, of the numbers that it is given.
      aggregator: the aggregator's.
      sampler: the sampler's.
    """

    algorithm: PyTree
    optimizer: PyTree
    aggregator: PyTree
    sampler: PyTree


class State(NamedTuple):
    """All that a simulation carries from round to round.

    Attributes:
      round: rounds done, int32 scalar.
      params: the global parameters.
      batch_stats: the global model's statistics.
      direction: w_{t−1} − w_t, zeros at first; `()` where nothing needs it.
      server: what the server keeps.
      clients: what clients keep, [clients, ...] leaves.
    """

    round: Array
    params: PyTree
    batch_stats: PyTree
    direction: PyTree
    server: ServerState
    clients: Memories


def start_from(setting: Setting, num_clients: int, first: First, sent: PyTree) -> State:
    """Returns the state before the first round.

    Args:
      setting: what a round does; static.
      num_clients: N.
      first: parameters and statistics.
      sent: a pytree like a client's update, of arrays or shapes.
    """
    algorithm, params = setting.work.algorithm, first.params
    like_sent = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sent)
    memories = Memories(
        algorithm.init_client(first),
        algorithm.regulator.remember(params),
        tuple(transform.init(like_sent) for transform in algorithm.transforms),
    )
    aggregator = algorithm.aggregator
    numbers = {k: jnp.asarray(v, float) for k, v in algorithm.hyperparameters.items()}
    server = ServerState(
        algorithm.init_server(first),
        algorithm.server_optimizer(numbers).init(params),
        () if aggregator is None else aggregator.init(like_sent),
        setting.sampler.init(num_clients),
    )
    return State(
        jnp.zeros((), jnp.int32),
        params,
        first.batch_stats,
        moved(algorithm, params, params),
        server,
        jax.tree.map(lambda x: jnp.repeat(x[None], num_clients, axis=0), memories),
    )


def starting_point(
    setting: Setting, state: State, round_key: Array, numbers: Mapping[str, Any]
) -> Start:
    """Returns what all clients of a round start from; weights are those of a client alone."""
    algorithm = setting.work.algorithm
    one = jnp.ones((), jnp.result_type(*jax.tree.leaves(state.params)))
    local = Local(
        state.params,
        algorithm.broadcast(state.server.algorithm),
        (),
        state.direction,
        algorithm.learning_rate(numbers["algorithm"], state.round),
        numbers["algorithm"],
    )
    return Start(local, state.batch_stats, numbers, one, one, jax.random.key_data(round_key))


def moved(algorithm: Algorithm, before: PyTree, after: PyTree) -> PyTree:
    """Returns w_{t−1} − w_t, or `()` where nothing needs it."""
    if algorithm.needs_direction or algorithm.regulator.needs_direction:
        return jax.tree.map(jnp.subtract, before, after)
    return ()
