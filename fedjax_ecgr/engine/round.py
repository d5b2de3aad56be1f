"""One round: choose a cohort, train its clients, average or aggregate, let the server step."""

from functools import partial
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
from fedjax_ecgr.engine.local_steps import Extent, where
from fedjax_ecgr.engine.placement import ClientFunction, map_reduce
from fedjax_ecgr.engine.setting import Setting, check_names, fitted, numbers_of, typed
from fedjax_ecgr.engine.state import ServerState, State, moved, starting_point
from fedjax_ecgr.samplers.base import Heard
from fedjax_ecgr.types import Array, PyTree, counting_dtype


class RoundInfo(NamedTuple):
    """Diagnostics of one round.

    Attributes:
      cohort: [cohort] int32, the clients that were chosen.
      asked: int32, how many of them were asked: those to which the sampler gave a weight.
      learning_rate: η_t.
      train_loss: Σ p_i (mean training loss of client i during its local steps); this and the next
        two are NaN of a round in which nobody took part, or a client's that counts is no number.
      drift: local-global divergence, Σ p_i ‖w_t − w_{i,τ}‖₂ with w_{i,τ} the local end points
        before any regulation.
      update_variance: variance of the client updates, Σ p_i ‖u_i − ū‖₂², ū = Σ p_i u_i, of what the
        server gets (FedNova's u_i / τ_i; what attacks made of it); what is below about
        1e-6 Σ p_i ‖u_i‖² is rounding in float32.
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
    """What the server makes of all updates, their mean, and Σ p_i ‖u_i‖² and ‖u_i‖² of each."""

    update: PyTree
    mean: PyTree
    state: PyTree
    mean_square: Array
    squares: Array


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
    variance = aggregated.mean_square - squared_norm(aggregated.mean, now.dtype)
    anybody = now.asked.present.any()
    info = RoundInfo(
        cohort=clients,
        asked=jnp.sum(now.asked.cohort.weights > 0, dtype=jnp.int32),
        learning_rate=now.start.local.learning_rate,
        train_loss=jnp.where(anybody, sums.loss, jnp.nan),
        drift=jnp.where(anybody, sums.drift, jnp.nan),
        update_variance=jnp.where(anybody, jnp.maximum(variance, 0), jnp.nan),
        seconds=now.asked.seconds,
        finite=all_finite((params, batch_stats)),
        clients=kept.report._replace(squared_norm=aggregated.squares),
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
        return _times(slot.weight, sent), ()

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
    sums = _Sums(
        update=() if setting.stacks else upload.update,
        weighted=upload.weighted,
        uniform=(),
        batch_stats=sent.batch_stats,
        loss=report.loss,
        drift=report.drift,
        squared_norm=report.squared_norm,
    )
    uniform = jax.tree.map(lambda x: 1 / setting.cohort_size * x, upload.uniform)
    return _times(weight, sums)._replace(uniform=uniform)


def _times(weight: Array, tree: PyTree) -> PyTree:
    """Returns p_i x of all leaves x; 0 of a client without weight, which may have no number."""

    def one(x: Array) -> Array:
        x, kind = jnp.asarray(x), counting_dtype(weight.dtype)
        if jnp.issubdtype(x.dtype, jnp.inexact):  # in the wider one of the two types
            wider = jnp.finfo(x.dtype).bits >= jnp.finfo(weight.dtype).bits
            kind = x.dtype if wider else weight.dtype
        return jnp.where(weight > 0, weight.astype(kind) * x.astype(kind), 0)

    return jax.tree.map(one, tree)


def _aggregate(now: _Now, sums: _Sums, kept: _Kept) -> _Aggregated:
    """Makes one update of all: their mean, or what the aggregator has of them after an attack."""
    before, norms = now.state.server.aggregator, (sums.squared_norm, kept.report.squared_norm)
    if not now.setting.stacks:
        return _Aggregated(sums.update, sums.update, before, *norms)
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
        squares = jax.vmap(partial(squared_norm, dtype=now.dtype), axis_size=present.size)(updates)
        norms = jnp.where(present, weights * squares, 0).sum(), squares
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
        return _Aggregated(mean_update, mean_update, before, *norms)
    update, after = aggregator.aggregate(updates, before, received)
    return _Aggregated(update, mean_update, after, *norms)


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
    # a first state may hold numbers, as that of optax.inject_hyperparams does
    first = jax.tree.map(_in_type_of, optimizer.init(state.params), state.server.optimizer)
    before = where(state.round == 0, first, state.server.optimizer)
    changes, optimizer_state = optimizer.update(direction, before, state.params)
    return optax.apply_updates(state.params, changes), algorithm_state, optimizer_state


def _in_type_of(x: Array, like: Array) -> Array:
    return jnp.asarray(x) if jnp.result_type(x) == like.dtype else jnp.asarray(x, like.dtype)


def _new_statistics(now: _Now, sums: _Sums) -> PyTree:
    """Returns the next global statistics: a cohort without any example leaves them as they were."""
    before = now.state.batch_stats
    if not jax.tree.leaves(sums.batch_stats):
        return before
    any_present, weights = now.asked.present.any(), now.asked.slots.weight

    def one(new: Array, old: Array) -> Array:
        if not jnp.issubdtype(old.dtype, jnp.inexact):  # counts, and weights add up to about 1
            new = jnp.round(new / weights.astype(new.dtype).sum())
        return jnp.where(any_present, new.astype(old.dtype), old)

    return jax.tree.map(one, sums.batch_stats, before)
