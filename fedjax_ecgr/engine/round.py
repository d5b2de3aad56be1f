"""One round: sample a cohort, train its clients, average, let the server step."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_ecgr import check
from fedjax_ecgr.algorithms import Algorithm, Local, Server, Upload, counting_dtype
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine.client import Report, Start, Work, all_finite, train
from fedjax_ecgr.engine.placement import Placement, map_reduce
from fedjax_ecgr.types import Array, PyTree

# The server's stream of randomness in a round; clients' streams are their numbers, all smaller.
_COHORT = np.uint32(2**32 - 1)


class State(NamedTuple):
    """All that a simulation carries from round to round.

    Attributes:
      round: rounds done, int32 scalar.
      params: the global parameters.
      stats: the global model's statistics.
      server: the algorithm's server state.
      clients: the algorithm's client states, [clients, ...] leaves.
    """

    round: Array
    params: PyTree
    stats: PyTree
    server: PyTree
    clients: PyTree


class RoundInfo(NamedTuple):
    """Diagnostics of one round.

    Attributes:
      cohort: [cohort] int32, the clients that took part.
      learning_rate: η_t.
      train_loss: Σ p_i (mean training loss of client i during its local steps).
      drift: local-global divergence, Σ p_i ‖w_t − w_{i,τ}‖₂ with w_{i,τ} the local end points
        before any regulation.
      update_variance: variance of the client updates, Σ p_i ‖u_i − ū‖₂², ū = Σ p_i u_i, of what the
        clients upload (FedNova's u_i / τ_i); what is below about 1e-6 Σ p_i ‖u_i‖² is rounding in
        float32.
      finite: whether the new global parameters and statistics are free of NaN and Inf.
      clients: each client's `Report`, [cohort] leaves.
    """

    cohort: Array
    learning_rate: Array
    train_loss: Array
    drift: Array
    update_variance: Array
    finite: Array
    clients: Report


class Setting(NamedTuple):
    """What a round does; static.

    Attributes:
      work: what every client does.
      cohort_size: clients a round.
      placement: how they are laid out.
    """

    work: Work
    cohort_size: int
    placement: Placement


class _Slot(NamedTuple):
    client: Array
    size: Array
    weight: Array


class _Sums(NamedTuple):
    update: PyTree
    weighted: PyTree
    uniform: PyTree
    stats: PyTree
    loss: Array
    drift: Array
    squared_norm: Array


def start_from(algorithm: Algorithm, num_clients: int, params: PyTree, stats: PyTree) -> State:
    """Returns the state before the first round, from parameters and statistics given."""
    one = algorithm.init_client(params)
    clients = jax.tree.map(lambda x: jnp.repeat(x[None], num_clients, axis=0), one)
    return State(jnp.zeros((), jnp.int32), params, stats, algorithm.init_server(params), clients)


def sample(key: Array, num_clients: int, cohort_size: int) -> Array:
    """Returns the cohort: [cohort_size] int32, without replacement, in order of client number."""
    if cohort_size == num_clients:
        return jnp.arange(num_clients, dtype=jnp.int32)
    # The clients of the largest draws. Numbers of 30 bits are read as positive floats, in the same
    # order, of which alone the largest are found fast: 1 ms of 100,000, a permutation takes 46.
    draws = (jax.random.bits(key, (num_clients,), jnp.uint32) >> 2) + jnp.uint32(0x00800000)
    draws = jax.lax.bitcast_convert_type(draws, jnp.float32)
    return jnp.sort(jax.lax.top_k(draws, cohort_size)[1])


def run_round(
    setting: Setting, data: FederatedDataset, state: State, key: Array, hyperparameters: PyTree
) -> tuple[State, RoundInfo]:
    """Runs one round.

    Args:
      setting: what to do; static.
      data: the federation's data.
      state: the state so far.
      key: the run's key; the round's randomness is folded in from `state.round`.
      hyperparameters: `{"algorithm": …, "regulator": …}`, the numbers of both.

    Returns:
      `(state, info)` after the round.
    """
    algorithm = setting.work.algorithm
    dtype = jnp.result_type(*jax.tree.leaves(state.params))
    _check_names(algorithm, hyperparameters)
    numbers = jax.tree.map(lambda x: jnp.asarray(x, dtype), hyperparameters)
    learning_rate = algorithm.learning_rate(numbers["algorithm"], state.round)
    round_key = jax.random.fold_in(key, state.round)
    num_clients = data.num_clients

    cohort = sample(jax.random.fold_in(round_key, _COHORT), num_clients, setting.cohort_size)
    sizes = data.sizes[cohort]
    # in floating point, of 32 bits at least: a sum of sizes may overflow
    held = sizes.astype(counting_dtype(dtype))
    weights = (held / jnp.maximum(held.sum(), 1)).astype(dtype)

    local = Local(
        state.params,
        algorithm.broadcast(state.server),
        (),
        learning_rate,
        numbers["algorithm"],
    )
    context = (
        Start(local, state.stats, numbers["regulator"]),
        state.clients,
        data,
        jax.random.key_data(round_key),
    )

    def client(context: PyTree, slot: _Slot, longest: Array | None) -> tuple[_Sums, PyTree]:
        start, states, data, key_data = context
        own = jax.tree.map(lambda x: x[slot.client], states)
        start = start._replace(local=start.local._replace(state=own))
        client_key = jax.random.fold_in(
            jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(key)), slot.client
        )
        outcome = train(
            setting.work,
            start,
            data.examples,
            data.indices[slot.client],
            slot.size,
            client_key,
            longest,
        )
        return _weighted(slot.weight, setting.cohort_size, outcome), (outcome.state, outcome.report)

    sums, (states, reports) = map_reduce(
        client,
        setting.placement,
        context,
        _Slot(cohort, sizes, weights),
        lambda slot: slot.size,
    )
    participation = jnp.asarray(setting.cohort_size / num_clients, dtype)
    params, server = algorithm.update_server(
        Server(state.params, state.server, participation, numbers["algorithm"]),
        Upload(sums.update, sums.weighted, sums.uniform),
    )
    # a cohort without any example leaves the statistics as they were
    stats = jax.tree.map(lambda new, old: jnp.where(sizes.any(), new, old), sums.stats, state.stats)
    state = State(
        round=state.round + 1,
        params=params,
        stats=stats,
        server=server,
        clients=jax.tree.map(lambda old, new: old.at[cohort].set(new), state.clients, states),
    )
    info = RoundInfo(
        cohort=cohort,
        learning_rate=learning_rate,
        train_loss=sums.loss,
        drift=sums.drift,
        update_variance=jnp.maximum(
            sums.squared_norm - optax.tree.norm(sums.update, squared=True), 0
        ),
        finite=all_finite((params, stats)),
        clients=reports,
    )
    return state, info


def _check_names(algorithm: Algorithm, given: Mapping[str, Any]) -> None:
    """Raises `InputError` unless the numbers given are just those of the algorithm's parts."""
    known: dict[str, Mapping[str, Any]] = {
        "algorithm": algorithm.hyperparameters,
        "regulator": algorithm.regulator.hyperparameters,
    }
    groups: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]
    groups = [("hyperparameters", given, known)]
    groups += [(f"hyperparameters of the {k}", given.get(k, {}), v) for k, v in known.items()]
    for where, there, wanted in groups:
        check.options(where, there, wanted)
        missing = [name for name in wanted if name not in there]
        if missing:
            raise check.InputError(f"{where}: {missing[0]!r} is missing")


def _weighted(weight: Array, cohort_size: int, outcome: Any) -> _Sums:
    upload, report = outcome.upload, outcome.report

    def times(factor: Array | float, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: factor * x, tree)

    return _Sums(
        update=times(weight, upload.update),
        weighted=times(weight, upload.weighted),
        uniform=times(1 / cohort_size, upload.uniform),
        stats=times(weight, outcome.stats),
        loss=weight * report.loss,
        drift=weight * report.drift,
        squared_norm=weight * report.squared_norm,
    )
