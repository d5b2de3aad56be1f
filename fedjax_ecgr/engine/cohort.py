"""Who takes part in a round, what they manage, and what they weigh."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine import streams
from fedjax_ecgr.engine.client import Slot, Start
from fedjax_ecgr.engine.local_steps import Extent, Shard, mean_over_all
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.engine.state import State
from fedjax_ecgr.samplers.base import Cohort, Population
from fedjax_ecgr.systems.base import Task
from fedjax_ecgr.types import Array, PyTree, counting_dtype


class Asked(NamedTuple):
    """The cohort of a round, and what its clients manage.

    Attributes:
      cohort: who was asked, and with what weights.
      slots: [cohort] leaves, its clients as the engine runs them; weights add up to 1.
      present: [cohort] bool, who sends something.
      seconds: how long the round takes by the system's virtual clock; 0 without one.
    """

    cohort: Cohort
    slots: Slot
    present: Array
    seconds: Array


def ask(
    setting: Setting,
    data: FederatedDataset,
    state: State,
    key: Array,
    round_key: Array,
    start: Start,
) -> Asked:
    """Samples the cohort, lets the system say what its clients manage, and weighs them.

    The run's `key` says what holds in all rounds: which devices clients have, who is malicious.
    """
    work, numbers = setting.work, start.numbers
    dtype = start.participants.dtype

    def losses(clients: Array) -> Array:
        return _losses(setting, data, state, start, clients)

    cohort = setting.sampler.sample(
        jax.random.fold_in(round_key, streams.COHORT),
        state.server.sampler,
        Population(state.round, jnp.asarray(data.sizes), losses),
        setting.cohort_size,
        numbers.get("sampler", {}),
    )
    sizes = data.sizes[cohort.clients]
    # a client of weight 0 is not asked
    steps = jnp.where(cohort.weights > 0, work.num_steps(sizes), 0)
    # in floating point, of 32 bits at least: a sum of sizes may overflow
    counting = counting_dtype(dtype)
    seconds = jnp.zeros((), counting)
    if setting.system is not None:
        system, given = setting.system, numbers.get("system", {})
        devices = system.init(jax.random.fold_in(key, streams.DEVICES), data.num_clients, given)
        task = Task(cohort.clients, steps, setting.bytes_down, setting.bytes_up, state.round)
        done = system.work(jax.random.fold_in(round_key, streams.SYSTEM), devices, task, given)
        steps, seconds = done.num_steps, done.seconds.astype(counting)
    weights = jnp.where(steps > 0, cohort.weights.astype(counting), 0)
    total = weights.sum()
    weights = (weights / jnp.where(total > 0, total, 1)).astype(dtype)
    malicious: PyTree = ()
    if work.attack is not None:
        malicious = malicious_clients(key, data.num_clients, numbers)[cohort.clients]
    slots = Slot(cohort.clients, Extent(steps, sizes), weights, malicious)
    return Asked(cohort, slots, steps > 0, seconds)


def malicious_clients(key: Array, num_clients: int, numbers: Mapping[str, Any]) -> Array:
    """Returns [N] bool: the malicious clients of a run, the share asked for, rounded down."""
    draws = jax.random.bits(jax.random.fold_in(key, streams.MALICIOUS), (num_clients,), jnp.uint32)
    ranks = jnp.argsort(jnp.argsort(draws)).astype(jnp.int32)
    # a share of 0.3 of 10 clients is 3, though 0.3 · 10 may be rounded below it
    share = numbers["malicious_share"]
    return ranks < jnp.floor(share * num_clients * (1 + 1e-6)).astype(jnp.int32)


def _losses(
    setting: Setting, data: FederatedDataset, state: State, start: Start, clients: Array
) -> Array:
    """Returns the mean loss of the global model over the examples of each of some clients."""
    work = setting.work
    dtype = start.participants.dtype
    key = jax.random.fold_in(streams.root(0), streams.LOSSES)

    def one(client: Array) -> Array:
        size = data.sizes[client]
        extent = Extent(work.num_steps(size), size)
        shard = Shard(data.examples, data.indices[client], extent, None, key)
        return mean_over_all(
            work, shard, lambda b: b.loss(state.params, state.batch_stats)[1].loss, dtype
        )

    return jax.lax.map(one, clients)


def check_system(
    setting: Setting, data: FederatedDataset, key: Array, hyperparameters: Mapping[str, Any]
) -> None:
    """Raises `InputError` if the system lets nobody ever take part; on concrete values."""
    if setting.system is None:
        return
    numbers = jax.tree.map(lambda x: jnp.asarray(x, float), hyperparameters.get("system", {}))
    num_clients = data.num_clients
    devices = setting.system.init(jax.random.fold_in(key, streams.DEVICES), num_clients, numbers)
    clients = jnp.arange(num_clients, dtype=jnp.int32)
    steps = setting.work.num_steps(jnp.asarray(data.sizes, jnp.int32))
    first = jnp.zeros((), jnp.int32)
    task = Task(clients, steps, setting.bytes_down, setting.bytes_up, first)
    setting.system.check(devices, task, numbers)
