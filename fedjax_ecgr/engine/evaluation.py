"""How good models are: the global one on the test examples, and each client's on its own.

A client's accuracy a_i is that of the model it is judged by (the algorithm's `personal`, else the
global one) on its own test examples, where there are such: a division of them among the clients
(`client_test`), or test examples with owners, where the clients are the owners. Else it is the
accuracy that the global model has on test examples drawn with the client's own label shares,
a_i = Σ_c q_i(c) a(c), with q_i(c) the share of label c among the client's training examples and
a(c) the accuracy on the test examples of label c. That is exact in expectation where clients differ
by labels alone (every partition of this project but those that shift inputs, which need a
`client_test`, and feature-skewed sources, which have owners), and costs nothing beyond the test
accuracy. Clients of which the test examples say nothing are left out.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import metrics
from fedjax_ecgr.data.federated import PADDING, Examples, FederatedDataset, label_counts
from fedjax_ecgr.engine import streams
from fedjax_ecgr.engine.client import Slot, at_client
from fedjax_ecgr.engine.local_steps import (
    Extent,
    batches,
    counted,
    normalise,
    without_padding,
)
from fedjax_ecgr.engine.placement import map_reduce
from fedjax_ecgr.engine.setting import Setting, fitted, typed
from fedjax_ecgr.engine.state import State, starting_point
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.types import AnyArray, Array, Loss, PyTree, counting_dtype


class EvaluationSet(NamedTuple):
    """Test examples and what they say of each client.

    Attributes:
      examples: the test examples.
      groups: like the test examples' labels, int32: the owner or the label of each.
      counts: [groups] how many labels each group has, padding apart.
      shares: [K, groups], row i the share of each group in client i's accuracy; each row sums to
        1. None where each group is one client.
      size: int32, how many examples there are; those beyond are none.
    """

    examples: Examples
    groups: AnyArray
    counts: AnyArray
    shares: AnyArray | None
    size: AnyArray


class Tests(NamedTuple):
    """All that an evaluation takes besides models.

    Attributes:
      all: the test examples.
      clients: each client's own, or None where `all` says enough of each client.
      judged: [K] int32, the clients that have test examples of their own; None beside no `clients`.
      validation: the examples that hyperparameters are chosen by, or None.
    """

    all: EvaluationSet
    clients: FederatedDataset | None = None
    judged: AnyArray | None = None
    validation: EvaluationSet | None = None


class Evaluation(NamedTuple):
    """How good a model is.

    Attributes:
      loss: mean loss of the global model over the test examples' labels.
      accuracy: share of labels at which the largest output of the global model is.
      clients: mean, standard deviation and worst 10 % of the clients' accuracies.
      validation: the same on the validation examples; None where there are none.
    """

    loss: AnyArray
    accuracy: AnyArray
    clients: metrics.ClientAccuracy
    validation: "Evaluation | None" = None


def evaluation_set(test: Examples, data: FederatedDataset, num_classes: int) -> EvaluationSet:
    """Returns `test` with what it says of each client of `data`; host-side."""
    labels = np.asarray(test.labels, np.int32)
    size = np.array(len(labels), np.int32)
    if test.owners is not None:
        _, owners = np.unique(np.asarray(test.owners), return_inverse=True)
        owners = owners.reshape(-1, *(1,) * (labels.ndim - 1))
        groups = np.broadcast_to(owners, labels.shape).astype(np.int32)
        return EvaluationSet(test, groups, np.bincount(groups[labels > PADDING]), None, size)
    counts = np.bincount(labels[labels > PADDING], minlength=num_classes)
    held = label_counts(data, num_classes) * (counts > 0)
    held = held[held.sum(axis=1) > 0]
    shares = held / held.sum(axis=1, keepdims=True)
    return EvaluationSet(test, np.maximum(labels, 0), counts, shares, size)


def judge(
    setting: Setting,
    data: FederatedDataset,
    tests: Tests,
    state: State,
    key: Array,
    numbers: PyTree,
) -> Evaluation:
    """Evaluates the global model, and the models that clients are judged by.

    Args:
      setting: what a round does; static.
      data: the clients' training data.
      tests: the test examples.
      state: the state of the simulation.
      key: the run's key.
      numbers: the hyperparameters of all parts.
    """
    work = setting.work

    def on(examples: EvaluationSet) -> Evaluation:
        model = state.params, state.batch_stats
        return evaluate(work.model, work.loss, setting.eval_batch_size, examples, *model)

    evaluation = on(tests.all)
    if tests.validation is not None:
        evaluation = evaluation._replace(validation=on(tests.validation))
    if tests.clients is None:
        return evaluation
    accuracies = evaluate_clients(setting, data, tests.clients, state, key, numbers)
    return evaluation._replace(clients=metrics.client_accuracy(accuracies[tests.judged]))


def evaluate(
    model: Model, loss: Loss, batch_size: int, test: EvaluationSet, params: Any, batch_stats: Any
) -> Evaluation:
    """Evaluates a model on the test examples.

    Args:
      model: the model.
      loss: `(outputs [B, ..., classes], labels [B, ...]) -> [B, ...]`.
      batch_size: examples at once; only a matter of speed and memory.
      test: the test examples.
      params: the model's parameters.
      batch_stats: the model's statistics.
    """
    examples = test.examples
    total = examples.labels.shape[0]
    batch_size = min(batch_size, total)
    rows = jnp.arange(batches(total, batch_size) * batch_size, dtype=jnp.int32)
    rows = rows.reshape(-1, batch_size)

    def one_batch(_: None, rows: Array) -> tuple[None, tuple[Array, Array]]:
        batch = jnp.minimum(rows, total - 1)
        return None, _judged(model, loss, examples, batch, rows < test.size, params, batch_stats)

    _, (losses, hits) = jax.lax.scan(one_batch, None, rows)
    # counted in 32 bits at least, whatever the parameters are
    counting = counting_dtype(jnp.result_type(*jax.tree.leaves(params)))
    losses, hits = (x.reshape(-1, *x.shape[2:])[:total].astype(counting) for x in (losses, hits))
    counts = jnp.asarray(test.counts, counting)
    grouped = jnp.zeros_like(counts).at[test.groups].add(hits) / jnp.maximum(counts, 1)
    accuracies = grouped if test.shares is None else _times(test.shares, grouped)
    return Evaluation(
        losses.sum() / counts.sum(), hits.sum() / counts.sum(), metrics.client_accuracy(accuracies)
    )


def evaluate_clients(
    setting: Setting,
    data: FederatedDataset,
    test: FederatedDataset,
    state: State,
    key: Array,
    numbers: PyTree,
) -> Array:
    """Returns each client's accuracy on its own test examples, by the model it is judged by: [N].

    Args:
      setting: what a round does; static.
      data: the clients' training data.
      test: the clients' test data.
      state: the state of the simulation.
      key: the run's key.
      numbers: the hyperparameters of all parts.
    """
    setting = fitted(setting, data)
    work, dtype = setting.work, jnp.result_type(*jax.tree.leaves(state.params))
    numbers = typed(numbers, dtype)
    data, test = jax.tree.map(jnp.asarray, (data, test))
    round_key = jax.random.fold_in(jax.random.fold_in(key, state.round), streams.EVALUATION)
    start = starting_point(setting, state, round_key, numbers)
    personal = work.algorithm.personal
    batch_size = min(setting.eval_batch_size, test.indices.shape[1])
    clients = jnp.arange(data.num_clients, dtype=jnp.int32)
    malicious = () if work.attack is None else jnp.zeros(data.num_clients, bool)
    sizes = jnp.asarray(data.sizes)
    extents = Extent(work.num_steps(sizes), sizes)
    slots = Slot(clients, extents, jnp.ones(data.num_clients, dtype), malicious)

    def one(context: PyTree, slot: Slot, longest: _Extents | None) -> tuple[tuple[()], Array]:
        start, memories, data, test = context
        params, batch_stats = start.local.params, start.batch_stats
        if personal is not None:
            own = jax.tree.map(lambda x: x[slot.client], memories)
            beside = None if longest is None else Extent(longest.num_steps, longest.size)
            impl = jax.random.key_impl(key)
            client, local = at_client(work, start, own, data, slot, beside, impl)
            params, batch_stats = personal(client, local)
        length = test.sizes[slot.client] if longest is None else longest.test_size
        return (), _accuracy(setting, batch_size, test, slot.client, length, params, batch_stats)

    def extents_of(slot: Slot) -> _Extents:
        return _Extents(*slot.extent, test.sizes[slot.client])

    context = (start, state.clients, data, test)
    return map_reduce(one, setting.placement, context, slots, extents_of)[1]


class _Extents(NamedTuple):
    num_steps: Array
    size: Array
    test_size: Array


def _accuracy(
    setting: Setting,
    batch_size: int,
    test: FederatedDataset,
    client: Array,
    length: Array,
    params: PyTree,
    batch_stats: PyTree,
) -> Array:
    """Returns a model's accuracy on one client's test examples; `length`: the longest beside it."""
    counting = counting_dtype(jnp.result_type(*jax.tree.leaves(params)))
    row, size = test.indices[client], test.sizes[client]

    def add(number: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        places = number * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
        mask = places < size
        rows = row[jnp.minimum(places, jnp.maximum(size - 1, 0))]
        work = setting.work
        _, hit = _judged(work.model, work.loss, test.examples, rows, mask, params, batch_stats)
        count = counted(test.examples.labels[rows], mask)
        return sums[0] + hit.sum(dtype=counting), sums[1] + count.sum(dtype=counting)

    zero = jnp.zeros((), counting)
    hits, count = jax.lax.fori_loop(0, batches(length, batch_size), add, (zero, zero))
    return hits / jnp.maximum(count, 1)


def _judged(
    model: Model,
    loss: Loss,
    examples: Examples,
    rows: Array,
    mask: Array,
    params: PyTree,
    batch_stats: PyTree,
) -> tuple[Array, Array]:
    """Returns each label's loss, and whether its largest output is there; 0 where it counts not."""
    dtype = jnp.result_type(*jax.tree.leaves(params))
    inputs = normalise(examples, examples.inputs[rows], dtype)
    outputs, _ = model.apply(
        params, batch_stats, inputs, mask=mask, train=False, key=streams.root(0)
    )
    labels = examples.labels[rows]
    count, labels = counted(labels, mask), without_padding(labels)
    hits = jnp.argmax(outputs, axis=-1).astype(labels.dtype) == labels
    return jnp.where(count, loss(outputs, labels), 0), hits & count


def _times(matrix: AnyArray, vector: Array) -> Array:
    matrix = jnp.asarray(matrix, vector.dtype)
    return jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)
