"""One round: choose a cohort, train its clients, average or aggregate, let the server step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr.aggregators.base import Received, mean
from fedjax_ecgr.algorithms import Server, Upload
from fedjax_ecgr.attacks.base import Attacking
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine import streams
from fedjax_ecgr.engine.client import (
    Memories,
    Report,
    Sent,
    Slot,
    Start,
    all_finite,
    at_client,
    squared_norm,
    take_part,
)
from fedjax_ecgr.engine.cohort import Asked, ask
from fedjax_ecgr.engine.local_steps import Extent
from fedjax_ecgr.engine.placement import ClientFunction, map_reduce
from fedjax_ecgr.engine.setting import Setting, check_names, fitted, numbers_of, typed
from fedjax_ecgr.engine.state import ServerState, State, moved, starting_point
from fedjax_ecgr.samplers.base import Heard
from fedjax_ecgr.types import Array, PyTree


class RoundInfo(NamedTuple):
    """Diagnostics of one round.

    Attributes:
      cohort: [cohort] int32, the clients that were chosen.
      asked: int32, how many of them were asked: those to which the sampler gave a weight.
      learning_rate: η_t.
      train_loss: Σ p_i (mean training loss of client i during its local steps).
      drift: local-global divergence, Σ p_i ‖w_t − w_{i,τ}‖₂ with w_{i,τ} the local end points
        before any regulation.
      update_variance: variance of the client updates, Σ p_i ‖u_i − ū‖₂², ū = Σ p_i u_i, of what the
        clients upload (FedNova's u_i / τ_i); what is below about 1e-6 Σ p_i ‖u_i‖² is rounding in
        float32.
      seconds: how long the round took by the system's virtual clock; 0 without one.
      finite: whether the new global parameters and statistics are free of NaN and Inf.
      clients: each client's `Report`, [cohort] leaves.
    """

    cohort: Array
    asked: Array
    learning_rate: Array
    train_loss: Array
    drift: Array
    update_variance: Array
    seconds: Array
    finite: Array
    clients: Report


class _Now(NamedTuple):
    """One round under way: what every part of it looks at."""

    setting: Setting
    data: FederatedDataset
    state: State
    start: Start
    asked: Asked
    round_key: Array

    @property
    def dtype(self) -> Any:
        """Of the parameters."""
        return self.start.participants.dtype

    @property
    def key_impl(self) -> Any:
        """Of the run's key."""
        return jax.random.key_impl(self.round_key)


class _Sums(NamedTuple):
    update: PyTree
    weighted: PyTree
    uniform: PyTree
    batch_stats: PyTree
    loss: Array
    drift: Array
    squared_norm: Array


class _Kept(NamedTuple):
    memories: Memories
    report: Report
    each: PyTree
    update: PyTree  # where all of them are needed at once, else `()`


class _Aggregated(NamedTuple):
    """What the server makes of all updates, and their mean."""

    update: PyTree
    mean: PyTree
    state: PyTree


def run_round(
    setting: Setting, data: FederatedDataset, state: State, key: Array, hyperparameters: PyTree
) -> tuple[State, RoundInfo]:
    """Runs one round.

    Args:
      setting: what to do; static.
      data: the federation's data.
      state: the state so far.
      key: the run's key; the round's randomness is folded in from `state.round`.
      hyperparameters: the numbers of all parts, see `Simulation.hyperparameters`.

    Returns:
      `(state, info)` after the round.
    """
    now = _begin(fitted(setting, data), data, state, key, hyperparameters)
    setting = now.setting
    if setting.work.algorithm.gather is not None:
        local = now.start.local._replace(gathered=_gather(now))
        now = now._replace(start=now.start._replace(local=local))
    sums, kept = _train(now)
    aggregated = _aggregate(now, sums, kept)
    upload = Upload(aggregated.update, sums.weighted, sums.uniform, kept.each)
    params, algorithm_state, optimizer_state = _step(now, upload)
    batch_stats = _new_statistics(now, sums)
    sampler_state = setting.sampler.update(
        state.server.sampler,
        Heard(
            now.asked.cohort,
            now.asked.present,
            kept.report.loss,
            now.start.numbers.get("sampler", {}),
        ),
    )
    clients = now.asked.cohort.clients
    after = State(
        round=state.round + 1,
        params=params,
        batch_stats=batch_stats,
        direction=moved(setting.work.algorithm, state.params, params),
        server=ServerState(algorithm_state, optimizer_state, aggregated.state, sampler_state),
        clients=jax.tree.map(
            lambda old, new: old.at[clients].set(new), state.clients, kept.memories
        ),
    )
    variance = sums.squared_norm - squared_norm(aggregated.mean, now.dtype)
    info = RoundInfo(
        cohort=clients,
        asked=jnp.sum(now.asked.cohort.weights > 0, dtype=jnp.int32),
        learning_rate=now.start.local.learning_rate,
        train_loss=sums.loss,
        drift=sums.drift,
        update_variance=jnp.maximum(variance, 0),
        seconds=now.asked.seconds,
        finite=all_finite((params, batch_stats)),
        clients=kept.report,
    )
    return after, info


def _begin(
    setting: Setting, data: FederatedDataset, state: State, key: Array, hyperparameters: PyTree
) -> _Now:
    """Chooses the cohort, and lays out what its clients start from."""
    dtype = jnp.result_type(*jax.tree.leaves(state.params))
    check_names(numbers_of(setting), hyperparameters)
    numbers = typed(hyperparameters, dtype)
    round_key = jax.random.fold_in(key, state.round)
    start = starting_point(setting, state, round_key, numbers)
    asked = ask(setting, data, state, key, round_key, start)
    start = start._replace(
        largest_weight=asked.slots.weight.max(),
        participants=jnp.sum(asked.present, dtype=dtype),
    )
    return _Now(setting, data, state, start, asked, round_key)


def _gather(now: _Now) -> PyTree:
    """Returns the cohort's average of what its clients send before they train."""
    gather = now.setting.work.algorithm.gather
    assert gather is not None

    def client(context: PyTree, slot: Slot, longest: Extent | None) -> tuple[PyTree, tuple[()]]:
        start, memories, data = context
        own = jax.tree.map(lambda x: x[slot.client], memories)
        seen, local = at_client(now.setting.work, start, own, data, slot, longest, now.key_impl)
        sent = gather(seen, local)
        return jax.tree.map(lambda x: jnp.where(slot.weight > 0, slot.weight * x, 0), sent), ()

    return _of_all(now, client)[0]


def _train(now: _Now) -> tuple[_Sums, _Kept]:
    """Runs the cohort's clients, laid out as the placement says."""
    setting = now.setting

    def client(context: PyTree, slot: Slot, longest: Extent | None) -> tuple[_Sums, _Kept]:
        start, memories, data = context
        own = jax.tree.map(lambda x: x[slot.client], memories)
        sent = take_part(
            setting.work, setting.outcome, start, own, data, slot, longest, now.key_impl
        )
        update = sent.upload.update if setting.stacks else ()
        kept = _Kept(sent.memories, sent.report, sent.upload.each, update)
        return _weighted(setting, slot.weight, sent), kept

    return _of_all(now, client)


def _of_all(now: _Now, client: ClientFunction) -> tuple[PyTree, PyTree]:
    """Returns the sum over the cohort, and what is kept of each of its clients."""
    context = now.start, now.state.clients, now.data
    return map_reduce(
        client, now.setting.placement, context, now.asked.slots, lambda slot: slot.extent
    )


def _weighted(setting: Setting, weight: Array, sent: Sent) -> _Sums:
    upload, report = sent.upload, sent.report

    def times(factor: Array | float, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: factor * x, tree)

    return _Sums(
        update=() if setting.stacks else times(weight, upload.update),
        weighted=times(weight, upload.weighted),
        uniform=times(1 / setting.cohort_size, upload.uniform),
        batch_stats=times(weight, sent.batch_stats),
        loss=weight * report.loss,
        drift=weight * report.drift,
        squared_norm=weight * report.squared_norm,
    )


def _aggregate(now: _Now, sums: _Sums, kept: _Kept) -> _Aggregated:
    """Makes one update of all: their mean, or what the aggregator has of them after an attack."""
    before = now.state.server.aggregator
    if not now.setting.stacks:
        return _Aggregated(sums.update, sums.update, before)
    attack, aggregator = now.setting.work.attack, now.setting.work.algorithm.aggregator
    weights, present = now.asked.slots.weight, now.asked.present
    updates = jax.tree.map(
        lambda u: jnp.where(jnp.expand_dims(present, tuple(range(1, u.ndim))), u, 0), kept.update
    )
    if attack is not None and attack.together is not None:
        attacking = Attacking(
            jax.random.fold_in(now.round_key, streams.ATTACK),
            weights,
            now.asked.slots.malicious & present,
            present,
            now.state.params,
            now.start.numbers.get("attack", {}),
        )
        updates = attack.together(updates, attacking)
    received = Received(
        now.asked.cohort.clients,
        weights,
        present,
        now.state.params,
        jax.random.fold_in(now.round_key, streams.AGGREGATOR),
        now.start.numbers.get("aggregator", {}),
    )
    mean_update, _ = mean(updates, (), received)
    if aggregator is None:
        return _Aggregated(mean_update, mean_update, before)
    update, after = aggregator.aggregate(updates, before, received)
    return _Aggregated(update, mean_update, after)


def _step(now: _Now, upload: Upload) -> tuple[PyTree, PyTree, PyTree]:
    """Returns the next global parameters, and the next states of algorithm and optimiser."""
    algorithm, state = now.setting.work.algorithm, now.state
    server = Server(
        state.params,
        state.server.algorithm,
        now.asked.cohort.clients,
        now.asked.present,
        jnp.asarray(now.setting.cohort_size / now.data.num_clients, now.dtype),
        now.start.local.learning_rate,
        now.start.numbers["algorithm"],
    )
    direction, algorithm_state = algorithm.server(server, upload)
    optimizer = algorithm.server_optimizer(server.hyperparameters)
    changes, optimizer_state = optimizer.update(direction, state.server.optimizer, state.params)
    return optax.apply_updates(state.params, changes), algorithm_state, optimizer_state


def _new_statistics(now: _Now, sums: _Sums) -> PyTree:
    """Returns the next global statistics: a cohort without any example leaves them as they were."""
    before = now.state.batch_stats
    if not jax.tree.leaves(sums.batch_stats):
        return before
    any_present = now.asked.present.any()
    return jax.tree.map(lambda new, old: jnp.where(any_present, new, old), sums.batch_stats, before)
