"""One client's round: its local steps, then the regulator, then the upload.

Everything here is written for a single client; `placement` lays many of them out. A client takes
τ = local epochs × ceil(n / batch size) steps; the last batch of an epoch may be partial and is
averaged over its own examples.
"""

from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr.algorithms import Algorithm, Local, Trained, Upload
from fedjax_ecgr.data.federated import Examples
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.regulators.base import Update
from fedjax_ecgr.types import Array, Loss, PyTree

Size = TypeVar("Size", int, Array)

# the streams of randomness of one client's round, folded into its key
_ORDER, _MODEL = 0, 1

# rows of examples are sorted in halves, quarters … but never in parts shorter than about this
_SHORT = 128


class Work(NamedTuple):
    """What every client does; static.

    Attributes:
      model: the model trained.
      algorithm: the federated algorithm, with its regulator.
      loss: `(outputs [B, classes], labels [B]) -> [B]`.
      batch_size: examples a step.
      local_epochs: passes over the client's examples.
      shuffle: whether each pass has its own random order; else examples come as stored.
    """

    model: Model
    algorithm: Algorithm
    loss: Loss
    batch_size: int
    local_epochs: int
    shuffle: bool

    def num_steps(self, size: Array) -> Array:
        """Returns τ of a client with `size` examples; 0 for a client without any."""
        return self.local_epochs * batches(size, self.batch_size)


class Start(NamedTuple):
    """What all clients of a round start from.

    Attributes:
      local: what an algorithm's functions see; its `state` is filled in for each client.
      stats: the model's statistics.
      regulator: the regulator's hyperparameters.
    """

    local: Local
    stats: PyTree
    regulator: PyTree


class Report(NamedTuple):
    """Diagnostics of one client's round; scalars.

    Attributes:
      loss: mean training loss over the examples of all local steps, each before its step.
      drift: ‖w_t − w_τ‖₂, how far the client went before any regulation.
      squared_norm: ‖update uploaded‖₂².
      num_steps: τ, int32.
      finite: whether loss, update and statistics are free of NaN and Inf.
      regulator: the regulator's own info.
    """

    loss: Array
    drift: Array
    squared_norm: Array
    num_steps: Array
    finite: Array
    regulator: PyTree


class Outcome(NamedTuple):
    """What one client's round gives.

    Attributes:
      upload: what the server averages; without effect for a client that took no step.
      stats: the model's statistics after the last step.
      state: the client's next state; unchanged for a client that took no step.
      report: diagnostics.
    """

    upload: Upload
    stats: PyTree
    state: PyTree
    report: Report


class _Carry(NamedTuple):
    params: PyTree
    stats: PyTree
    optimizer: PyTree
    regulator: PyTree
    loss: Array


def normalise(examples: Examples, inputs: Array, dtype: jnp.dtype) -> Array:
    """Returns stored inputs as the model gets them: (x − mean) / std, in `dtype`."""
    shape = (1,) * (inputs.ndim - jnp.ndim(examples.mean))
    mean = jnp.reshape(jnp.asarray(examples.mean, dtype), (*shape, *jnp.shape(examples.mean)))
    std = jnp.reshape(jnp.asarray(examples.std, dtype), (*shape, *jnp.shape(examples.std)))
    return (inputs.astype(dtype) - mean) / std


def batches(size: Size, batch_size: int) -> Size:
    """Returns ceil(size / batch_size)."""
    return (size + batch_size - 1) // batch_size


def train(
    work: Work,
    start: Start,
    examples: Examples,
    row: Array,
    size: Array,
    key: Array,
    longest: Array | None = None,
) -> Outcome:
    """Runs one client's round.

    Args:
      work: what to do; static.
      start: what all clients start from, with this client's state filled in.
      examples: all examples of the federation.
      row: [max_examples] int32, the client's examples in its first `size` entries.
      size: n, int32.
      key: the randomness of this client in this round.
      longest: the largest size of the clients that run at once, each as many steps as that client;
        those beyond its own τ change nothing. None for a client that runs alone.

    Returns:
      The upload, the client's next state and a report.
    """
    algorithm, local = work.algorithm, start.local
    dtype = jnp.result_type(*jax.tree.leaves(local.params))
    max_steps = work.local_epochs * batches(row.shape[0], work.batch_size)
    num_steps = work.num_steps(size)
    per_epoch = jnp.maximum(batches(size, work.batch_size), 1)
    length = num_steps if longest is None else work.num_steps(longest)
    order = _order(work, row, size, longest, jax.random.fold_in(key, _ORDER))
    optimizer = algorithm.optimizer(local.learning_rate, local.hyperparameters)

    def objective(
        params: PyTree, stats: PyTree, batch: Array, mask: Array, step_key: Array
    ) -> tuple[Array, tuple[PyTree, Array]]:
        inputs = normalise(examples, examples.inputs[batch], dtype)
        outputs, stats = work.model.apply(
            params, stats, inputs, mask=mask, train=True, key=step_key
        )
        losses = jnp.where(mask, work.loss(outputs, examples.labels[batch]).astype(dtype), 0)
        total, count = losses.sum(), jnp.maximum(mask.sum(), 1).astype(dtype)
        return total / count + algorithm.objective(params, local), (stats, total)

    def step(observe: Update, index: Array, carry: _Carry) -> _Carry:
        active = True if longest is None else index < num_steps
        epoch, position = index // per_epoch, index % per_epoch * work.batch_size
        batch = jax.lax.dynamic_slice(order, (epoch, position), (1, work.batch_size))[0]
        mask = (position + jnp.arange(work.batch_size, dtype=jnp.int32) < size) & active
        step_key = jax.random.fold_in(jax.random.fold_in(key, _MODEL), index)
        gradient, (stats, loss) = jax.grad(objective, has_aux=True)(
            carry.params, carry.stats, batch, mask, step_key
        )
        updates, optimizer_state = optimizer.update(gradient, carry.optimizer, carry.params)
        params = algorithm.correct(optax.apply_updates(carry.params, updates), local)
        params = _where(active, params, carry.params)
        delta = jax.tree.map(jnp.subtract, carry.params, params)
        return _Carry(
            params,
            _where(active, stats, carry.stats),
            optimizer_state,
            observe(delta, carry.regulator, active),
            carry.loss + loss,
        )

    def steps(observe: Update, regulator: PyTree) -> _Carry:
        first = _Carry(
            local.params,
            start.stats,
            optimizer.init(local.params),
            regulator,
            jnp.zeros((), dtype),
        )
        return jax.lax.fori_loop(0, length, partial(step, observe), first)

    regulator = algorithm.regulator
    end = steps(regulator.update, regulator.init(local.params, max_steps, start.regulator))
    if regulator.replay is not None:
        end = steps(regulator.replay.update, regulator.replay.init(local.params, end.regulator))
    total = jax.tree.map(jnp.subtract, local.params, end.params)
    update, info = regulator.finalize(end.regulator, total)
    taken = num_steps > 0
    update = _where(taken, update, total)  # no step: zero, where a direction may be 0 / 0
    trained = Trained(end.params, update, jnp.maximum(num_steps, 1).astype(dtype))
    upload, state = algorithm.finish(trained, local)
    # What the server weighs by examples has no weight where there are none.
    uniform = _where(taken, upload.uniform, jax.tree.map(jnp.zeros_like, upload.uniform))
    upload = upload._replace(uniform=uniform)
    seen = jnp.maximum(size * work.local_epochs, 1).astype(dtype)
    report = Report(
        loss=end.loss / seen,
        drift=optax.tree.norm(total),
        squared_norm=optax.tree.norm(upload.update, squared=True),
        num_steps=num_steps,
        finite=all_finite((upload, end.stats, end.loss)),
        regulator=info,
    )
    return Outcome(upload, end.stats, _where(taken, state, local.state), report)


def _order(work: Work, row: Array, size: Array, longest: Array | None, key: Array) -> Array:
    """Returns each epoch's order of the client's examples: [epochs, whole batches] int32.

    What fills the last batch up are the client's own examples again, so that nobody's data, which
    masks keep out of every sum, can reach another client as 0 · inf.
    """
    width = row.shape[0]
    filled = jnp.arange(batches(width, work.batch_size) * work.batch_size, dtype=jnp.int32)
    filled = filled % jnp.maximum(size, 1)
    if not work.shuffle:
        return jnp.broadcast_to(row[filled], (work.local_epochs, filled.shape[0]))

    def shuffled(width: int) -> Array:
        """Shuffles a row of which nothing stands behind `width`."""

        def epoch(index: Array) -> Array:
            draws = jax.random.bits(jax.random.fold_in(key, index), (width,), jnp.uint32)
            absent = jnp.arange(width, dtype=jnp.int32) >= size
            # the sort is stable: a draw of the largest number still comes before what is absent
            return row[jnp.argsort(jnp.where(absent, ~jnp.uint32(0), draws))]

        order = jax.vmap(epoch)(jnp.arange(work.local_epochs, dtype=jnp.int32))
        return jnp.pad(order, ((0, 0), (0, row.shape[0] - width)))

    # A row is as wide as the largest client's. Sorting no more of it than the clients at hand need
    # gives the same order: the draws of a shorter row are the first of a longer one's, by JAX's
    # default `jax_threefry_partitionable`.
    widths = [width]
    while widths[-1] > _SHORT:
        widths.append(-(-widths[-1] // 2))
    needed = size if longest is None else longest
    halvings = jnp.sum(needed <= jnp.array(widths[1:], jnp.int32), dtype=jnp.int32)
    order = jax.lax.switch(halvings, [partial(shuffled, w) for w in widths])
    return order[:, filled]


def _where(condition: Array | bool, new: PyTree, old: PyTree) -> PyTree:
    if condition is True:
        return new
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def all_finite(tree: PyTree) -> Array:
    """Returns whether no leaf holds NaN or Inf, bool scalar."""
    # Zero times a number is zero, but for NaN and Inf; and XLA adds numbers up several times as
    # fast as it joins truth values.
    return jnp.stack([jnp.sum(0 * x) for x in jax.tree.leaves(tree)]).sum() == 0
