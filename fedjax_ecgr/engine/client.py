"""One client's round: what the algorithm makes of its data, then transforms, then the upload.

Everything here is written for a single client; `placement` lays many of them out.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr.algorithms import Batch, Client, Local, Outcome, Seen, Trained, Upload
from fedjax_ecgr.attacks.base import Attacking
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine import streams
from fedjax_ecgr.engine.local_steps import (
    Extent,
    Plan,
    Shard,
    Work,
    counted,
    falsifier,
    mean_over_all,
    train,
    where,
    without_padding,
)
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.regulators import Given
from fedjax_ecgr.transforms.base import Sending
from fedjax_ecgr.types import Array, PyTree, counting_dtype


class Slot(NamedTuple):
    """One client of a cohort: what differs from client to client.

    Attributes:
      client: its number, int32.
      extent: its steps and size.
      weight: p_i.
      malicious: whether it is, bool; `()` where nobody is.
    """

    client: Array
    extent: Extent
    weight: Array
    malicious: PyTree


class Memories(NamedTuple):
    """What clients keep from round to round; [clients, ...] leaves in a run's state.

    Attributes:
      algorithm: the algorithm's client states.
      regulator: the regulator's memories.
      transforms: one state for each transform.
    """

    algorithm: PyTree
    regulator: PyTree
    transforms: tuple[PyTree, ...]


class Start(NamedTuple):
    """What all clients of a round start from.

    Attributes:
      local: what an algorithm's functions see; its `state` is filled in for each client.
      batch_stats: the model's statistics.
      numbers: all hyperparameters, by part.
      largest_weight: max p_i over the cohort.
      participants: how many clients send something, in the parameters' dtype.
      round_key: the round's randomness, as raw key data.
    """

    local: Local
    batch_stats: PyTree
    numbers: Mapping[str, Any]
    largest_weight: Array
    participants: Array
    round_key: Array


class Report(NamedTuple):
    """Diagnostics of one client's round; scalars.

    Attributes:
      loss: mean training loss over the examples of all local steps, each before its step.
      drift: ‖w_t − w_τ‖₂, how far the client went before any regulation.
      squared_norm: ‖update that the server gets‖₂².
      num_steps: τ, int32.
      finite: whether loss, statistics and update, that before any attack, are free of NaN and Inf;
        True of a client that took no step.
      regulator: the regulator's own info.
    """

    loss: Array
    drift: Array
    squared_norm: Array
    num_steps: Array
    finite: Array
    regulator: PyTree


class Sent(NamedTuple):
    """What one client's round gives.

    Attributes:
      upload: what the server gets; all zero of a client that took no step.
      batch_stats: the model's statistics after the last step.
      memories: what the client keeps; unchanged for one that took no step.
      report: diagnostics.
    """

    upload: Upload
    batch_stats: PyTree
    memories: Memories
    report: Report


def outcome_of(work: Work) -> Callable[..., Outcome]:
    """Returns what the algorithm makes of one client's round, traced once for all who ask.

    It takes the batch size, then what `at_client` takes of a client; the first and the last of
    these, the kind of key, are static.
    """

    def outcome(batch_size: int, *of_client: Any) -> Outcome:
        return work.algorithm.client(*at_client(work._replace(batch_size=batch_size), *of_client))

    return jax.jit(outcome, static_argnums=(0, 6), inline=True)


def take_part(
    work: Work,
    outcome_of_client: Callable[..., Outcome],
    start: Start,
    memories: Memories,
    data: FederatedDataset,
    slot: Slot,
    longest: Extent | None,
    key_impl: Any,
) -> Sent:
    """Runs one client's round.

    Args:
      work: what to do; static.
      outcome_of_client: what `outcome_of` returned for it.
      start: what all clients start from.
      memories: this client's.
      data: the federation's data.
      slot: which client.
      longest: the largest extent of the clients that run at once, each for as many steps; None for
        a client that runs alone.
      key_impl: the kind of the round's key; static.
    """
    own = memories._replace(transforms=())  # which only what is sent decides
    outcome = outcome_of_client(work.batch_size, start, own, data, slot, longest, key_impl)
    taken = slot.extent.num_steps > 0
    upload = _none_without_steps(taken, outcome.upload)
    key = client_key(start, slot, key_impl)
    update, transformed = _transform(work, start, memories, slot, upload.update, key)
    honest = upload._replace(update=update)
    upload = upload._replace(update=_attack(work, start, slot, update, key))
    batch_stats = outcome.trained.batch_stats
    if outcome.batch_stats is not None:
        batch_stats = outcome.batch_stats
    after = Memories(outcome.state, _learn(work, start, memories, outcome), transformed)
    report = Report(
        loss=outcome.trained.loss,
        drift=outcome.trained.drift,
        squared_norm=squared_norm(upload.update, slot.weight.dtype),
        num_steps=slot.extent.num_steps,
        finite=all_finite((honest, batch_stats, outcome.trained.loss)) | ~taken,
        regulator=outcome.trained.info,
    )
    return Sent(upload, batch_stats, where(taken, after, memories), report)


def _none_without_steps(taken: Array, upload: Upload) -> Upload:
    """Returns the upload, zero of a client that took no step; its update has no weight."""
    rest = upload._replace(update=())
    rest = where(taken, rest, jax.tree.map(jnp.zeros_like, rest))
    return rest._replace(update=upload.update)


def client_key(start: Start, slot: Slot, key_impl: Any) -> Array:
    """Returns the randomness of one client in one round."""
    round_key = jax.random.wrap_key_data(start.round_key, impl=key_impl)
    return jax.random.fold_in(round_key, slot.client)


def at_client(
    work: Work,
    first: Start,
    memories: Memories,
    data: FederatedDataset,
    slot: Slot,
    longest: Extent | None,
    key_impl: Any,
) -> tuple[Client, Local]:
    """Returns what an algorithm's functions see of one client."""
    algorithm = work.algorithm
    local = first.local._replace(state=memories.algorithm)
    dtype = jnp.result_type(*jax.tree.leaves(local.params))
    given = _given(first, memories)
    numbers = first.numbers.get("attack", {})
    shard = Shard(
        data.examples,
        data.indices[slot.client],
        slot.extent,
        longest,
        client_key(first, slot, key_impl),
        falsifier(work.attack, slot.malicious, work.num_classes, numbers),
        first.numbers.get("augmentations", {}),
    )

    def run(
        start: PyTree | None = None,
        batch_stats: PyTree | None = None,
        *,
        objective: Any = None,
        correct: Any = None,
        optimizer: optax.GradientTransformation | None = None,
        regulate: Any = True,
        epochs: int | None = None,
        stream: int = 0,
    ) -> Trained:
        plan = Plan(
            local.params if start is None else start,
            first.batch_stats if batch_stats is None else batch_stats,
            objective or _loss_of_batch,
            correct,
            optimizer or algorithm.optimizer(local.learning_rate, local.hyperparameters),
            None if regulate is False else algorithm.regulator,
            regulate if callable(regulate) else _whole,
            given,
            work.local_epochs if epochs is None else epochs,
            stream,
        )
        return train(work, shard, plan, dtype)

    def summed(params: PyTree, batch: Batch) -> Array:
        return batch.loss(params, first.batch_stats)[1].loss

    client = Client(
        number=slot.client,
        size=slot.extent.size,
        weight=slot.weight,
        batch_stats=first.batch_stats,
        num_classes=work.num_classes,
        head=head_of(work.model, local.params),
        train=run,
        loss=lambda params: mean_over_all(work, shard, partial(summed, params), dtype),
        gradient=lambda params: mean_over_all(
            work, shard, partial(jax.grad(summed), params), dtype
        ),
        label_counts=partial(_label_counts, shard, work.num_classes, dtype),
    )
    return client, local


def head_of(model: Model, params: PyTree) -> PyTree:
    """Returns, like the parameters, which leaves are of the model's head: Python bools."""
    return jax.tree.map_with_path(
        lambda path, _: bool(path) and getattr(path[0], "key", None) in model.head, params
    )


def _loss_of_batch(params: PyTree, batch_stats: PyTree, batch: Batch) -> tuple[Array, Seen]:
    return batch.loss(params, batch_stats)


def _whole(params: PyTree) -> PyTree:
    return params


def _label_counts(shard: Shard, num_classes: int, dtype: Any) -> Array:
    counting = counting_dtype(dtype)
    held = jnp.arange(shard.row.shape[0], dtype=jnp.int32) < shard.extent.size
    stored = shard.examples.labels[shard.row]
    labels = shard.falsify(without_padding(stored))
    return jnp.zeros(num_classes, counting).at[labels].add(counted(stored, held).astype(counting))


def _given(start: Start, memories: Memories) -> Given:
    return Given(start.numbers["regulator"], memories.regulator, start.local.direction)


def _learn(work: Work, start: Start, memories: Memories, outcome: Outcome) -> PyTree:
    if outcome.trained.info is None:
        return memories.regulator  # nothing was regulated
    given = _given(start, memories)
    return work.algorithm.regulator.learn(memories.regulator, outcome.trained.info, given)


def _transform(
    work: Work, start: Start, memories: Memories, slot: Slot, update: PyTree, key: Array
) -> tuple[PyTree, tuple[PyTree, ...]]:
    states = []
    for number, transform in enumerate(work.algorithm.transforms):
        own = jax.random.fold_in(jax.random.fold_in(key, jnp.uint32(streams.TRANSFORM)), number)
        numbers = start.numbers["transforms"][transform.name]
        sending = Sending(own, slot.weight, start.largest_weight, start.participants, numbers)
        update, state = transform.update(update, memories.transforms[number], sending)
        states.append(state)
    return update, tuple(states)


def _attack(work: Work, start: Start, slot: Slot, update: PyTree, key: Array) -> PyTree:
    if work.attack is None or work.attack.alone is None:
        return update
    yes = jnp.asarray(True)
    own = jax.random.fold_in(key, jnp.uint32(streams.CLIENT_ATTACK))
    numbers = start.numbers.get("attack", {})
    attacking = Attacking(own, slot.weight, yes, yes, start.local.params, numbers)
    changed = work.attack.alone(update, attacking)
    return where(slot.malicious & (slot.extent.num_steps > 0), changed, update)


def squared_norm(update: PyTree, dtype: Any) -> Array:
    """Returns ‖update‖₂²; 0 where nothing is sent."""
    if not jax.tree.leaves(update):
        return jnp.zeros((), dtype)
    return optax.tree.norm(update, squared=True)


def all_finite(tree: PyTree) -> Array:
    """Returns whether no leaf holds NaN or Inf, bool scalar."""
    # Zero times a number is zero, but for NaN and Inf; and XLA adds numbers up several times as
    # fast as it joins truth values.
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.sum(0 * x) for x in leaves]).sum() == 0
