"""One round: choose a cohort, train its clients, average or aggregate, let the server step."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.base import Received, mean
from fedjax_ecgr.algorithms import Algorithm, First, Local, Server, Upload, counting_dtype
from fedjax_ecgr.attacks.base import Attacking
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine.client import (
    Memories,
    Report,
    Slot,
    Start,
    all_finite,
    at_client,
    squared_norm,
    take_part,
)
from fedjax_ecgr.engine.local_steps import Extent, Shard, Work, mean_over_all
from fedjax_ecgr.engine.placement import Placement, map_reduce
from fedjax_ecgr.samplers.base import Cohort, Heard, Population, Sampler
from fedjax_ecgr.systems.base import System, Task
from fedjax_ecgr.types import Array, PyTree

# The server's streams of randomness in a round, and, of the run's key, those that last for a run;
# clients' streams are their numbers, all smaller.
_COHORT, _SYSTEM, _AGGREGATOR, _ATTACK, _LOSSES = (np.uint32(2**32 - 1 - i) for i in range(5))
_MALICIOUS, _DEVICES = np.uint32(2**32 - 2), np.uint32(2**32 - 3)


class ServerState(NamedTuple):
    """What the server keeps from round to round, by part.

    Attributes:
      algorithm: the algorithm's server state.
      optimizer: the server optimiser's.
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


class RoundInfo(NamedTuple):
    """Diagnostics of one round.

    Attributes:
      cohort: [cohort] int32, the clients that were asked.
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
    learning_rate: Array
    train_loss: Array
    drift: Array
    update_variance: Array
    seconds: Array
    finite: Array
    clients: Report


class Setting(NamedTuple):
    """What a round does; static.

    Attributes:
      work: what every client does.
      cohort_size: clients a round.
      placement: how they are laid out.
      sampler: who takes part.
      system: what they manage; None for everything, in no time.
      malicious_share: share of all clients that is malicious, where there is an attack; the number
        that counts is the one among the hyperparameters.
      bytes_up: what one client sends a round.
      bytes_down: what one client receives a round.
    """

    work: Work
    cohort_size: int
    placement: Placement
    sampler: Sampler
    system: System | None = None
    malicious_share: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def stacks(self) -> bool:
        """Whether all updates of a cohort are needed at once."""
        attack = self.work.attack
        together = attack is not None and attack.together is not None
        return together or self.work.algorithm.aggregator is not None


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


class _Asked(NamedTuple):
    """The cohort of a round, and what its clients manage."""

    cohort: Cohort
    slots: Slot
    present: Array
    seconds: Array


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
        _moved(algorithm, params, params),
        server,
        jax.tree.map(lambda x: jnp.repeat(x[None], num_clients, axis=0), memories),
    )


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
    dtype = jnp.result_type(*jax.tree.leaves(state.params))
    check_names(numbers_of(setting), hyperparameters)
    numbers = jax.tree.map(lambda x: jnp.asarray(x, dtype), hyperparameters)
    round_key = jax.random.fold_in(key, state.round)
    start = starting_point(setting, state, round_key, numbers)

    asked = _ask(setting, data, state, key, start)
    present = asked.present
    start = start._replace(
        largest_weight=asked.slots.weight.max(),
        participants=jnp.sum(present, dtype=dtype),
    )
    key_impl = jax.random.key_impl(key)
    if setting.work.algorithm.gather is not None:
        gathered = _gather(setting, data, state, start, asked, key_impl)
        start = start._replace(local=start.local._replace(gathered=gathered))
    sums, kept = _train(setting, data, state, start, asked, key_impl)
    update, mean_update, aggregator = _aggregate(
        setting, state, start, asked, sums, kept, round_key
    )
    server = Server(
        state.params,
        state.server.algorithm,
        asked.cohort.clients,
        present,
        jnp.asarray(setting.cohort_size / data.num_clients, dtype),
        start.local.learning_rate,
        numbers["algorithm"],
    )
    upload = Upload(update, sums.weighted, sums.uniform, kept.each)
    params, algorithm_state, optimizer = _step(setting, server, upload, state.server.optimizer)
    batch_stats = state.batch_stats
    if jax.tree.leaves(sums.batch_stats):
        # a cohort without any example leaves the statistics as they were
        batch_stats = jax.tree.map(
            lambda new, old: jnp.where(present.any(), new, old), sums.batch_stats, batch_stats
        )
    sampler = setting.sampler.update(
        state.server.sampler,
        Heard(asked.cohort, present, kept.report.loss, numbers.get("sampler", {})),
    )
    state = State(
        round=state.round + 1,
        params=params,
        batch_stats=batch_stats,
        direction=_moved(setting.work.algorithm, state.params, params),
        server=ServerState(algorithm_state, optimizer, aggregator, sampler),
        clients=jax.tree.map(
            lambda old, new: old.at[asked.cohort.clients].set(new), state.clients, kept.memories
        ),
    )
    variance = sums.squared_norm - squared_norm(mean_update, dtype)
    info = RoundInfo(
        cohort=asked.cohort.clients,
        learning_rate=start.local.learning_rate,
        train_loss=sums.loss,
        drift=sums.drift,
        update_variance=jnp.maximum(variance, 0),
        seconds=asked.seconds,
        finite=all_finite((params, batch_stats)),
        clients=kept.report,
    )
    return state, info


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


def _ask(
    setting: Setting, data: FederatedDataset, state: State, key: Array, start: Start
) -> _Asked:
    """Samples the cohort, lets the system say what its clients manage, and weighs them."""
    work, numbers = setting.work, start.numbers
    dtype = start.participants.dtype
    round_key = jax.random.fold_in(key, state.round)

    def losses(clients: Array) -> Array:
        return _losses(setting, data, state, start, clients)

    cohort = setting.sampler.sample(
        jax.random.fold_in(round_key, _COHORT),
        state.server.sampler,
        Population(state.round, jnp.asarray(data.sizes), losses),
        setting.cohort_size,
        numbers.get("sampler", {}),
    )
    sizes = data.sizes[cohort.clients]
    # a client of weight 0 is not asked
    steps = jnp.where(cohort.weights > 0, work.num_steps(sizes), 0)
    seconds = jnp.zeros((), dtype)
    if setting.system is not None:
        system, given = setting.system, numbers.get("system", {})
        devices = system.init(jax.random.fold_in(key, _DEVICES), data.num_clients, given)
        task = Task(cohort.clients, steps, setting.bytes_down, setting.bytes_up, state.round)
        done = system.work(jax.random.fold_in(round_key, _SYSTEM), devices, task, given)
        steps, seconds = done.num_steps, done.seconds.astype(dtype)
    # in floating point, of 32 bits at least: a sum of sizes may overflow
    counting = counting_dtype(dtype)
    weights = jnp.where(steps > 0, cohort.weights.astype(counting), 0)
    total = weights.sum()
    weights = (weights / jnp.where(total > 0, total, 1)).astype(dtype)
    malicious: PyTree = ()
    if work.attack is not None:
        malicious = malicious_clients(key, data.num_clients, numbers)[cohort.clients]
    slots = Slot(cohort.clients, Extent(steps, sizes), weights, malicious)
    return _Asked(cohort, slots, steps > 0, seconds)


def malicious_clients(key: Array, num_clients: int, numbers: Mapping[str, Any]) -> Array:
    """Returns [N] bool: the malicious clients of a run, the share asked for, rounded down."""
    draws = jax.random.bits(jax.random.fold_in(key, _MALICIOUS), (num_clients,), jnp.uint32)
    ranks = jnp.argsort(jnp.argsort(draws)).astype(jnp.int32)
    share = numbers["malicious_share"].astype(counting_dtype(numbers["malicious_share"].dtype))
    # a share of 0.3 of 10 clients is 3, though 0.3 · 10 may be rounded below it
    return ranks < jnp.floor(share * num_clients * (1 + 1e-6)).astype(jnp.int32)


def _losses(
    setting: Setting, data: FederatedDataset, state: State, start: Start, clients: Array
) -> Array:
    """Returns the mean loss of the global model over the examples of each of some clients."""
    work = setting.work
    dtype = start.participants.dtype
    key = jax.random.fold_in(jax.random.key(0), _LOSSES)

    def one(client: Array) -> Array:
        size = data.sizes[client]
        extent = Extent(work.num_steps(size), size)
        shard = Shard(data.examples, data.indices[client], extent, None, key)
        return mean_over_all(
            work, shard, lambda b: b.loss(state.params, state.batch_stats)[1].loss, dtype
        )

    return jax.lax.map(one, clients)


def _gather(
    setting: Setting,
    data: FederatedDataset,
    state: State,
    start: Start,
    asked: _Asked,
    key_impl: Any,
) -> PyTree:
    """Returns the cohort's average of what its clients send before they train."""
    gather = setting.work.algorithm.gather
    assert gather is not None

    def client(context: PyTree, slot: Slot, longest: Extent | None) -> tuple[PyTree, tuple[()]]:
        start, memories, data = context
        own = jax.tree.map(lambda x: x[slot.client], memories)
        seen, local, _ = at_client(setting.work, start, own, data, slot, longest, key_impl)
        sent = gather(seen, local)
        return jax.tree.map(lambda x: jnp.where(slot.weight > 0, slot.weight * x, 0), sent), ()

    context = (start, state.clients, data)
    return map_reduce(client, setting.placement, context, asked.slots, lambda s: s.extent)[0]


def _train(
    setting: Setting,
    data: FederatedDataset,
    state: State,
    start: Start,
    asked: _Asked,
    key_impl: Any,
) -> tuple[_Sums, _Kept]:
    """Runs the cohort's clients, laid out as the placement says."""

    def client(context: PyTree, slot: Slot, longest: Extent | None) -> tuple[_Sums, _Kept]:
        start, memories, data = context
        own = jax.tree.map(lambda x: x[slot.client], memories)
        sent = take_part(setting.work, start, own, data, slot, longest, key_impl)
        update = sent.upload.update if setting.stacks else ()
        kept = _Kept(sent.memories, sent.report, sent.upload.each, update)
        return _weighted(setting, slot.weight, sent), kept

    return map_reduce(
        client,
        setting.placement,
        (start, state.clients, data),
        asked.slots,
        lambda slot: slot.extent,
    )


def _weighted(setting: Setting, weight: Array, sent: Any) -> _Sums:
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


def _aggregate(
    setting: Setting,
    state: State,
    start: Start,
    asked: _Asked,
    sums: _Sums,
    kept: _Kept,
    key: Array,
) -> tuple[PyTree, PyTree, PyTree]:
    """Returns what the server has of all updates, their mean, and the aggregator's next state."""
    if not setting.stacks:
        return sums.update, sums.update, state.server.aggregator
    attack, aggregator = setting.work.attack, setting.work.algorithm.aggregator
    weights, present = asked.slots.weight, asked.present
    updates = jax.tree.map(
        lambda u: jnp.where(jnp.expand_dims(present, tuple(range(1, u.ndim))), u, 0), kept.update
    )
    if attack is not None and attack.together is not None:
        attacking = Attacking(
            jax.random.fold_in(key, _ATTACK),
            weights,
            asked.slots.malicious & present,
            present,
            start.numbers.get("attack", {}),
        )
        updates = attack.together(updates, attacking)
    received = Received(
        asked.cohort.clients,
        weights,
        present,
        state.params,
        jax.random.fold_in(key, _AGGREGATOR),
        start.numbers.get("aggregator", {}),
    )
    mean_update, _ = mean(updates, (), received)
    if aggregator is None:
        return mean_update, mean_update, state.server.aggregator
    update, aggregator_state = aggregator.aggregate(updates, state.server.aggregator, received)
    return update, mean_update, aggregator_state


def _step(
    setting: Setting, server: Server, upload: Upload, optimizer_state: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
    """Returns the next global parameters, and the next states of algorithm and optimiser."""
    algorithm = setting.work.algorithm
    direction, algorithm_state = algorithm.server(server, upload)
    optimizer = algorithm.server_optimizer(server.hyperparameters)
    changes, optimizer_state = optimizer.update(direction, optimizer_state, server.params)
    return optax.apply_updates(server.params, changes), algorithm_state, optimizer_state


def _moved(algorithm: Algorithm, before: PyTree, after: PyTree) -> PyTree:
    """Returns w_{t−1} − w_t, or `()` where nothing needs it."""
    if algorithm.needs_direction or algorithm.regulator.needs_direction:
        return jax.tree.map(jnp.subtract, before, after)
    return ()


def check_system(
    setting: Setting, data: FederatedDataset, key: Array, hyperparameters: Mapping[str, Any]
) -> None:
    """Raises `InputError` if the system lets nobody ever take part; on concrete values."""
    if setting.system is None:
        return
    numbers = jax.tree.map(lambda x: jnp.asarray(x, float), hyperparameters.get("system", {}))
    num_clients = data.num_clients
    devices = setting.system.init(jax.random.fold_in(key, _DEVICES), num_clients, numbers)
    clients = jnp.arange(num_clients, dtype=jnp.int32)
    steps = setting.work.num_steps(jnp.asarray(data.sizes, jnp.int32))
    first = jnp.zeros((), jnp.int32)
    task = Task(clients, steps, setting.bytes_down, setting.bytes_up, first)
    setting.system.check(devices, task, numbers)


def numbers_of(setting: Setting) -> dict[str, Any]:
    """Returns the hyperparameters of a setting's parts, those given to their factories."""
    algorithm, attack = setting.work.algorithm, setting.work.attack
    numbers: dict[str, Any] = {
        "algorithm": dict(algorithm.hyperparameters),
        "regulator": dict(algorithm.regulator.hyperparameters),
    }
    if algorithm.transforms:
        numbers["transforms"] = {t.name: dict(t.hyperparameters) for t in algorithm.transforms}
    if attack is not None:
        numbers["malicious_share"] = setting.malicious_share
    others = {"aggregator": algorithm.aggregator, "attack": attack, "system": setting.system}
    for part, chosen in {**others, "sampler": setting.sampler}.items():
        if chosen is not None and chosen.hyperparameters:
            numbers[part] = dict(chosen.hyperparameters)
    return numbers


def check_names(wanted: Mapping[str, Any], given: Mapping[str, Any], where: str = "") -> None:
    """Raises `InputError` unless the numbers given are just those of the setting's parts."""
    place = f"hyperparameters of the {where}" if where else "hyperparameters"
    check.options(place, given, wanted)
    missing = [name for name in wanted if name not in given]
    if missing:
        raise check.InputError(f"{place}: {missing[0]!r} is missing")
    for name, inner in wanted.items():
        if isinstance(inner, Mapping):
            check_names(inner, given[name], name)
