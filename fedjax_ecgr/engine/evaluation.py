"""How good the global model is: on the test examples, and for each client.

A client's accuracy a_i is that on its own test examples, where the test examples have owners. Where
they have none, it is the accuracy the global model has on test examples drawn with the client's own
label shares, a_i = Σ_c q_i(c) a(c), with q_i(c) the share of label c among the client's training
examples and a(c) the accuracy on the test examples of label c. That is exact in expectation where
clients differ by labels alone (every partition of this project but feature-skewed sources, which
have owners), and costs nothing beyond the test accuracy. Clients of which the test examples say
nothing are left out.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import metrics
from fedjax_ecgr.algorithms import counting_dtype
from fedjax_ecgr.data.federated import Examples, FederatedDataset, label_counts
from fedjax_ecgr.engine.client import batches, normalise
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.types import AnyArray, Loss


class EvaluationSet(NamedTuple):
    """Test examples and what they say of each client.

    Attributes:
      examples: the test examples.
      groups: [test examples] int32, the owner or the label of each.
      counts: [groups] how many test examples each group has.
      shares: [K, groups], row i the share of each group in client i's accuracy; each row sums to
        1. None where each group is one client.
    """

    examples: Examples
    groups: AnyArray
    counts: AnyArray
    shares: AnyArray | None


class Evaluation(NamedTuple):
    """How good a model is.

    Attributes:
      loss: mean loss over the test examples.
      accuracy: share of test examples whose largest output is at the label.
      clients: mean, standard deviation and worst 10 % of the clients' accuracies.
    """

    loss: AnyArray
    accuracy: AnyArray
    clients: metrics.ClientAccuracy


def evaluation_set(test: Examples, data: FederatedDataset, num_classes: int) -> EvaluationSet:
    """Returns `test` with what it says of each client of `data`; host-side."""
    if test.owners is not None:
        _, groups = np.unique(np.asarray(test.owners), return_inverse=True)
        return EvaluationSet(test, groups.astype(np.int32), np.bincount(groups), None)
    labels = np.asarray(test.labels, np.int32)
    counts = np.bincount(labels, minlength=num_classes)
    held = label_counts(data, num_classes) * (counts > 0)
    held = held[held.sum(axis=1) > 0]
    return EvaluationSet(test, labels, counts, held / held.sum(axis=1, keepdims=True))


def evaluate(
    model: Model, loss: Loss, batch_size: int, test: EvaluationSet, params: Any, stats: Any
) -> Evaluation:
    """Evaluates a model on the test examples.

    Args:
      model: the model.
      loss: `(outputs, labels) -> [B]`.
      batch_size: examples at once; only a matter of speed and memory.
      test: the test examples.
      params: the model's parameters.
      stats: the model's statistics.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    examples = test.examples
    total = examples.labels.shape[0]
    batch_size = min(batch_size, total)
    rows = jnp.arange(batches(total, batch_size) * batch_size, dtype=jnp.int32)
    rows = rows.reshape(-1, batch_size)

    def one_batch(_: None, rows: jax.Array) -> tuple[None, tuple[jax.Array, jax.Array]]:
        batch = jnp.minimum(rows, total - 1)
        inputs = normalise(examples, examples.inputs[batch], dtype)
        outputs, _ = model.apply(
            params, stats, inputs, mask=rows < total, train=False, key=jax.random.key(0)
        )
        labels = examples.labels[batch]
        hit = jnp.argmax(outputs, axis=-1).astype(labels.dtype) == labels
        return None, (loss(outputs, labels), hit)

    _, (losses, hits) = jax.lax.scan(one_batch, None, rows)
    # counted in 32 bits at least, whatever the parameters are
    counting = counting_dtype(dtype)
    losses = losses.reshape(-1)[:total].astype(counting)
    hits = hits.reshape(-1)[:total].astype(counting)

    counts = jnp.asarray(test.counts, counting)
    grouped = jnp.zeros_like(counts).at[test.groups].add(hits) / jnp.maximum(counts, 1)
    accuracies = grouped if test.shares is None else _times(test.shares, grouped)
    return Evaluation(losses.mean(), hits.mean(), metrics.client_accuracy(accuracies))


def _times(matrix: AnyArray, vector: jax.Array) -> jax.Array:
    matrix = jnp.asarray(matrix, vector.dtype)
    return jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)
