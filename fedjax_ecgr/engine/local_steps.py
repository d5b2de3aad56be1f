"""A client's local steps: one batch after another, and the regulator that watches them.

A client takes τ = local epochs × ceil(n / batch size) steps, or fewer where its system does not
manage them; the last batch of an epoch may be partial and is averaged over its own examples.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr.algorithms import Algorithm, Batch, Seen, Trained
from fedjax_ecgr.attacks.base import Attack
from fedjax_ecgr.augmentations import Augmentation
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.federated import PADDING, Examples
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.regulators import Given, Regulator
from fedjax_ecgr.regulators.base import Update
from fedjax_ecgr.types import Array, Hyperparameters, Loss, PyTree, counting_dtype

Size = TypeVar("Size", int, Array)

# the streams of randomness of one training, folded into its key
_ORDER, _MODEL, _AUGMENT = 0, 1, 2

# rows of examples are sorted in halves, quarters … but never in parts shorter than about this
_SHORT = 128


class Work(NamedTuple):
    """What every client does; static.

    Attributes:
      model: the model trained.
      algorithm: the federated algorithm, with its regulator and transforms.
      loss: `(outputs [B, ..., classes], labels [B, ...]) -> [B, ...]`.
      num_classes: width of the outputs.
      batch_size: examples a step.
      local_epochs: passes over the client's examples.
      shuffle: whether each pass has its own random order; else examples come as stored.
      attack: what malicious clients do; None where nobody is.
      augmentations: what changes the images of a training batch, in this order.
    """

    model: Model
    algorithm: Algorithm
    loss: Loss
    num_classes: int
    batch_size: int
    local_epochs: int
    shuffle: bool
    attack: Attack | None = None
    augmentations: tuple[Augmentation, ...] = ()

    def num_steps(self, size: Array) -> Array:
        """Returns τ of a client with `size` examples; 0 for a client without any."""
        return self.local_epochs * batches(size, self.batch_size)


class Extent(NamedTuple):
    """How much a client has to do: what clients that run at once wait for.

    Attributes:
      num_steps: local steps, int32.
      size: n, int32.
    """

    num_steps: Array
    size: Array


class Shard(NamedTuple):
    """One client's examples, and how it goes through them.

    Attributes:
      examples: all examples of the federation.
      row: [max_examples] int32, the client's examples in its first `size` entries.
      extent: its own steps and size.
      longest: the largest of the clients that run at once, each for as long as that; what is beyond
        its own extent changes nothing. None for a client that runs alone.
      key: the randomness of this client in this round.
      falsify: `labels -> labels`, none below 0, for a malicious client's.
      augmentations: the numbers of each of the augmentations, by name.
    """

    examples: Examples
    row: Array
    extent: Extent
    longest: Extent | None
    key: Array
    falsify: Callable[[Array], Array] = lambda labels: labels
    augmentations: Mapping[str, Hyperparameters] = {}  # never written to


class Plan(NamedTuple):
    """One training: what differs between the trainings of a client.

    Attributes:
      params: where it starts.
      batch_stats: the first statistics.
      objective: see `fedjax_ecgr.algorithms.base.Objective`.
      correct: `params -> params`, after each optimiser step.
      optimizer: the local optimiser.
      regulator: what watches the steps; None for nothing.
      watched: `params -> part`, what the regulator sees of them.
      given: what the regulator is given.
      epochs: passes over the examples; static.
      stream: which stream of randomness; static.
    """

    params: PyTree
    batch_stats: PyTree
    objective: Callable[[PyTree, PyTree, Batch], tuple[Array, Seen]]
    correct: Callable[[PyTree], PyTree] | None
    optimizer: optax.GradientTransformation
    regulator: Regulator | None
    watched: Callable[[PyTree], PyTree]
    given: Given
    epochs: int
    stream: int


class _Carry(NamedTuple):
    params: PyTree
    batch_stats: PyTree
    optimizer: PyTree
    regulator: PyTree
    loss: Array
    targets: Array


def normalise(examples: Examples, inputs: Array, dtype: jnp.dtype) -> Array:
    """Returns stored inputs as the model gets them: (x − mean) / std, in `dtype`; or tokens."""
    if inputs.dtype == jnp.int32:
        return inputs
    shape = (1,) * (inputs.ndim - jnp.ndim(examples.mean))
    mean = jnp.reshape(jnp.asarray(examples.mean, dtype), (*shape, *jnp.shape(examples.mean)))
    std = jnp.reshape(jnp.asarray(examples.std, dtype), (*shape, *jnp.shape(examples.std)))
    return (inputs.astype(dtype) - mean) / std


def counted(labels: Array, mask: Array) -> Array:
    """Returns which labels [B, ...] count: none of a masked row, and none that is padding."""
    if labels.ndim == 1:
        return mask
    return mask.reshape(-1, *(1,) * (labels.ndim - 1)) & (labels > PADDING)


def batches(size: Size, batch_size: int) -> Size:
    """Returns ceil(size / batch_size)."""
    return (size + batch_size - 1) // batch_size


def train(work: Work, shard: Shard, plan: Plan, dtype: Any) -> Trained:
    """Runs one training of one client.

    Args:
      work: what every client does; static.
      shard: the client's examples.
      plan: the training.
      dtype: of the parameters.
    """
    per_epoch = jnp.maximum(batches(shard.extent.size, work.batch_size), 1)
    num_steps, length = _lengths(work, shard, plan.epochs)
    key = shard.key if plan.stream == 0 else jax.random.fold_in(shard.key, 2 + plan.stream)
    order = _order(work, shard, plan.epochs, jax.random.fold_in(key, _ORDER))

    def batch_at(index: Array, active: Array | bool) -> Batch:
        epoch, position = index // per_epoch, index % per_epoch * work.batch_size
        rows = jax.lax.dynamic_slice(order, (epoch, position), (1, work.batch_size))[0]
        mask = position + jnp.arange(work.batch_size, dtype=jnp.int32) < shard.extent.size
        step_key = jax.random.fold_in(jax.random.fold_in(key, _MODEL), index)
        return make_batch(work, shard, rows, mask & active, dtype, step_key, train=True)

    # To rounding, a step is what the optimiser takes away, and that alone is quicker to keep than
    # the difference of two parameters. In half precision rounding is most of a step.
    counting = counting_dtype(dtype)
    updates_are_steps = plan.correct is None and dtype == counting

    def step(observe: Update | None, index: Array, carry: _Carry) -> _Carry:
        active = True if shard.longest is None else index < num_steps
        gradient, seen = jax.grad(plan.objective, has_aux=True)(
            carry.params, carry.batch_stats, batch_at(index, active)
        )
        updates, optimizer = plan.optimizer.update(gradient, carry.optimizer, carry.params)
        params = optax.apply_updates(carry.params, updates)
        if plan.correct is not None:
            params = plan.correct(params)
        params = where(active, params, carry.params)
        regulator = carry.regulator
        if observe is not None:
            before = plan.watched(carry.params)
            if updates_are_steps:
                taken = plan.watched(updates)
                delta = jax.tree.map(lambda w, u: -u.astype(w.dtype), before, taken)
            else:
                delta = jax.tree.map(jnp.subtract, before, plan.watched(params))
            regulator = observe(delta, regulator, active)
        return _Carry(
            params,
            where(active, seen.batch_stats, carry.batch_stats),
            optimizer,
            regulator,
            carry.loss + seen.loss.astype(counting),
            carry.targets + seen.targets,
        )

    def steps(observe: Update | None, regulator: PyTree) -> _Carry:
        first = _Carry(
            plan.params,
            plan.batch_stats,
            plan.optimizer.init(plan.params),
            regulator,
            jnp.zeros((), counting),
            jnp.zeros((), jnp.int32),
        )
        return jax.lax.fori_loop(0, length, partial(step, observe), first)

    watched = plan.watched(plan.params)
    plan = plan._replace(given=_given_part(plan.given, watched))
    max_steps = plan.epochs * batches(shard.row.shape[0], work.batch_size)
    end, finalize = _watch(plan, watched, max_steps, steps)
    total = jax.tree.map(jnp.subtract, watched, plan.watched(end.params))
    update, info = finalize(end.regulator, total)
    update = where(num_steps > 0, update, total)  # no step: zero, where a direction may be 0 / 0
    return Trained(
        params=end.params,
        update=update,
        num_steps=jnp.maximum(num_steps, 1).astype(dtype),
        batch_stats=end.batch_stats,
        loss=(end.loss / jnp.maximum(end.targets, 1).astype(counting)).astype(dtype),
        drift=optax.tree.norm(total),
        info=info,
    )


def _given_part(given: Given, watched: PyTree) -> Given:
    """Returns what the regulator is given, of the part of the parameters that it watches."""
    if not jax.tree.leaves(given.direction):
        return given
    direction = jax.tree.map(
        lambda x, d: None if x is None else d,
        watched,
        given.direction,
        is_leaf=lambda x: x is None,
    )
    return given._replace(direction=direction)


def _watch(
    plan: Plan, watched: PyTree, max_steps: int, steps: Callable[[Update | None, PyTree], _Carry]
) -> tuple[_Carry, Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]]:
    """Runs the steps under the regulator, twice if it replays; returns the end and `finalize`."""
    regulator = plan.regulator
    if regulator is None:
        return steps(None, ()), lambda state, total: (total, None)
    end = steps(regulator.update, regulator.init(watched, max_steps, plan.given))
    if regulator.replay is not None:
        again = regulator.replay.init(watched, end.regulator, plan.given)
        end = steps(regulator.replay.update, again)
    return end, partial(_finalize, regulator, plan.given)


def _finalize(
    regulator: Regulator, given: Given, state: PyTree, total: PyTree
) -> tuple[PyTree, PyTree]:
    return regulator.finalize(state, total, given)


def _lengths(work: Work, shard: Shard, epochs: int) -> tuple[Array, Array]:
    """Returns the client's own steps in a training, and those of the longest beside it."""

    def steps(extent: Extent) -> Array:
        if epochs == work.local_epochs:
            return extent.num_steps
        # a client that manages a share of its steps manages that share of any training
        passes, left = jnp.divmod(extent.num_steps, work.local_epochs)
        return epochs * passes + epochs * left // work.local_epochs

    own = steps(shard.extent)
    if shard.longest is None:
        return own, own
    if epochs == work.local_epochs:
        return own, shard.longest.num_steps
    return own, epochs * batches(shard.longest.size, work.batch_size)


def mean_over_all(
    work: Work,
    shard: Shard,
    function: Callable[[Batch], PyTree],
    dtype: Any,
) -> PyTree:
    """Returns (1/n) Σ over all batches of a client, `function(batch)` a sum over its n labels."""
    size = shard.extent.size
    longest = size if shard.longest is None else shard.longest.size
    width = batches(shard.row.shape[0], work.batch_size) * work.batch_size
    filled = shard.row[jnp.arange(width, dtype=jnp.int32) % jnp.maximum(size, 1)]

    def at(index: Array) -> tuple[Array, PyTree]:
        first = index * work.batch_size
        rows = jax.lax.dynamic_slice(filled, (first,), (work.batch_size,))
        mask = first + jnp.arange(work.batch_size, dtype=jnp.int32) < size
        batch = make_batch(work, shard, rows, mask, dtype, shard.key, train=False)
        return batch.targets, function(batch)

    shapes = jax.eval_shape(at, jax.ShapeDtypeStruct((), "int32"))[1]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, counting_dtype(s.dtype)), shapes)

    def add(index: Array, done: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        count, total = done
        targets, sums = at(index)
        return count + targets, jax.tree.map(lambda t, s: t + s.astype(t.dtype), total, sums)

    nothing = jnp.zeros((), jnp.int32), zeros
    count, total = jax.lax.fori_loop(0, batches(longest, work.batch_size), add, nothing)
    count = jnp.maximum(count, 1)
    return jax.tree.map(lambda x, s: (x / count.astype(x.dtype)).astype(s.dtype), total, shapes)


def make_batch(
    work: Work, shard: Shard, rows: Array, mask: Array, dtype: Any, key: Array, *, train: bool
) -> Batch:
    """Returns the examples of `rows` as a `Batch`; the model trains or is evaluated on them."""
    examples = shard.examples
    inputs = examples.inputs[rows]
    if train:
        inputs = _augmented(work, shard, inputs, key)
    inputs = normalise(examples, inputs, dtype)
    stored = examples.labels[rows]
    labels = shard.falsify(without_padding(stored))

    def loss(
        params: PyTree,
        batch_stats: PyTree,
        *,
        per_example: Loss | None = None,
        mask: Array | None = mask,
    ) -> tuple[Array, Seen]:
        assert mask is not None
        outputs, batch_stats = work.model.apply(
            params, batch_stats, inputs, mask=mask, train=train, key=key
        )
        losses = (per_example or work.loss)(outputs, labels).astype(dtype)
        count = counted(stored, mask)
        total, targets = jnp.where(count, losses, 0).sum(), count.sum(dtype=jnp.int32)
        mean = total / jnp.maximum(targets, 1).astype(dtype)
        return mean, Seen(batch_stats, total, targets)

    def features(params: PyTree, batch_stats: PyTree) -> Array:
        if work.model.features is None:  # found when shapes are asked for, before any compilation
            raise InputError(
                f"{work.algorithm.name}: model: {work.model.name}, which has no features, is not "
                "allowed (Model.features, what the last layer is given)"
            )
        return work.model.features(params, batch_stats, inputs, mask=mask, train=train, key=key)

    targets = counted(stored, mask).sum(dtype=jnp.int32)
    return Batch(inputs, labels, mask, targets, loss, features)


def _augmented(work: Work, shard: Shard, images: Array, key: Array) -> Array:
    for number, augmentation in enumerate(work.augmentations):
        own = jax.random.fold_in(jax.random.fold_in(key, _AUGMENT), number)
        images = augmentation.apply(own, images, shard.augmentations[augmentation.name])
    return images


def without_padding(labels: Array) -> Array:
    """Returns labels that every loss can take: one an example as they are, else none below 0."""
    return labels if labels.ndim == 1 else jnp.maximum(labels, 0)


def _order(work: Work, shard: Shard, epochs: int, key: Array) -> Array:
    """Returns each epoch's order of the client's examples: [epochs, whole batches] int32.

    What fills the last batch up are the client's own examples again, so that nobody's data, which
    masks keep out of every sum, can reach another client as 0 · inf.
    """
    row, size = shard.row, shard.extent.size
    width = row.shape[0]
    filled = jnp.arange(batches(width, work.batch_size) * work.batch_size, dtype=jnp.int32)
    filled = filled % jnp.maximum(size, 1)
    if not work.shuffle:
        return jnp.broadcast_to(row[filled], (epochs, filled.shape[0]))

    def shuffled(width: int) -> Array:
        """Shuffles a row of which nothing stands behind `width`."""

        def epoch(index: Array) -> Array:
            draws = jax.random.bits(jax.random.fold_in(key, index), (width,), jnp.uint32)
            absent = jnp.arange(width, dtype=jnp.int32) >= size
            # the sort is stable: a draw of the largest number still comes before what is absent
            return row[jnp.argsort(jnp.where(absent, ~jnp.uint32(0), draws))]

        order = jax.vmap(epoch)(jnp.arange(epochs, dtype=jnp.int32))
        return jnp.pad(order, ((0, 0), (0, row.shape[0] - width)))

    # A row is as wide as the largest client's. Sorting no more of it than the clients at hand need
    # gives the same order: the draws of a shorter row are the first of a longer one's, by JAX's
    # default `jax_threefry_partitionable`.
    widths = [width]
    while widths[-1] > _SHORT:
        widths.append(-(-widths[-1] // 2))
    needed = size if shard.longest is None else shard.longest.size
    halvings = jnp.sum(needed <= jnp.array(widths[1:], jnp.int32), dtype=jnp.int32)
    order = jax.lax.switch(halvings, [partial(shuffled, w) for w in widths])
    return order[:, filled]


def where(condition: Array | bool, new: PyTree, old: PyTree) -> PyTree:
    """Returns `new` where the condition holds, else `old`, leaf by leaf."""
    if condition is True:
        return new
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def falsifier(
    attack: Attack | None, malicious: Array, num_classes: int, numbers: Hyperparameters
) -> Callable[[Array], Array]:
    """Returns `labels -> labels` of a client that may be malicious."""
    if attack is None or attack.labels is None:
        return lambda labels: labels
    change = attack.labels
    return lambda labels: jnp.where(malicious, change(labels, num_classes, numbers), labels)
