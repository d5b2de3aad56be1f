"""Federated rounds in plain loops over clients, steps and examples."""

import importlib
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class World(NamedTuple):
    """Data and model.

    Attributes:
      inputs: [N, features], normalised.
      labels: [N].
      rows: each client's examples, in order.
      tests: each client's own test examples, in order.
      width: how many columns the rectangle of indices has in the engine.
      outputs: `(w, inputs) -> [B, classes]`, w a flat vector.
      features: `(w, inputs) -> [B, F]`.
      head: [P] bool, which entries of w belong to the last layer.
      num_classes: number of labels.
      batch_size, epochs: of local training.
    """

    inputs: np.ndarray
    labels: np.ndarray
    rows: list[np.ndarray]
    tests: list[np.ndarray]
    width: int
    outputs: Callable[[Any, Any], Any]
    features: Callable[[Any, Any], Any]
    head: np.ndarray
    num_classes: int
    batch_size: int
    epochs: int


class Trained(NamedTuple):
    """Where local training ended: w_τ, the update, τ, the mean loss, the deltas [τ, P]."""

    params: np.ndarray
    update: np.ndarray
    num_steps: int
    loss: float
    deltas: np.ndarray


def cross_entropy(outputs, labels):
    """[B] losses."""
    return -jax.nn.log_softmax(outputs)[jnp.arange(len(labels)), labels]


@cache
def compiled(derivative, outputs, loss=cross_entropy):
    """`(w, inputs, labels, *given) ->` that of the mean loss, compiled once for a shape."""

    def mean(w, inputs, labels, *given):
        return loss(outputs(w, inputs), labels, *given).mean()

    return jax.jit(derivative(mean))


class Client:
    """One client in one round."""

    def __init__(self, world, number, w, numbers, eta, weight, key, direction, regulate):
        self.world, self.number, self.w, self.numbers = world, number, w, numbers
        self.eta, self.weight, self.key, self.direction = eta, weight, key, direction
        self.rows, self.n, self.head = world.rows[number], len(world.rows[number]), world.head
        self.num_classes, self._regulate = world.num_classes, regulate

    def _both(self, w, rows, *loss_and_given):
        loss, *given = loss_and_given or (cross_entropy,)
        both = compiled(jax.value_and_grad, self.world.outputs, loss)
        return both(jnp.asarray(w), self.world.inputs[rows], self.world.labels[rows], *given)

    def loss(self, w, rows, *loss):
        """Mean loss over `rows`: the cross-entropy, or `loss, *given`.

        `loss(outputs, labels, *given) -> [B]` is a function of a module, compiled once.
        """
        return float(self._both(w, rows, *loss)[0])

    def gradient(self, w, rows, *loss):
        """The gradient of that."""
        return np.asarray(self._both(w, rows, *loss)[1])

    def counts(self):
        """[classes], the client's examples of each label."""
        return np.bincount(self.world.labels[self.rows], minlength=self.num_classes)

    def batches(self, epochs=None, stream=0):
        """Each local step's examples: a fresh order an epoch, the last batch partial."""
        key = self.key if stream == 0 else jax.random.fold_in(self.key, 2 + stream)
        order_key = jax.random.fold_in(key, 0)
        size = self.world.batch_size
        for epoch in range(self.world.epochs if epochs is None else epochs):
            # the engine draws one number for each column of its rectangle; the first n belong to
            # the client's n examples, whose order is that of their numbers
            epoch_key = jax.random.fold_in(order_key, epoch)
            draws = np.asarray(jax.random.bits(epoch_key, (self.world.width,), np.uint32))
            order = np.argsort(draws[: self.n], kind="stable")
            for first in range(0, self.n, size):
                yield self.rows[order[first : first + size]]

    def train(
        self, start=None, gradient=None, correct=None, *, epochs=None, stream=0, regulate=True
    ):
        """Heavy-ball SGD; `gradient(w, rows)` in place of the loss's, `correct(w)` after a step."""
        w = self.w if start is None else start
        first, velocity, deltas, losses = w, np.zeros_like(w), [], []
        for rows in self.batches(epochs, stream):
            losses += [self.loss(w, rows)] * len(rows)
            g = (gradient or self.gradient)(w, rows) + self.numbers["weight_decay"] * w
            velocity = self.numbers["momentum"] * velocity + g
            stepped = w - self.eta * velocity
            if correct is not None:
                stepped = correct(stepped)
            deltas.append(w - stepped)
            w = stepped
        moved = np.array(deltas).reshape(-1, len(w))
        update = self.regulate(moved) if regulate and deltas else first - w
        return Trained(w, update, len(deltas), float(np.mean(losses)) if losses else 0.0, moved)

    def regulate(self, deltas):
        """What the regulator makes of [τ, P] deltas."""
        return self._regulate(self.number, deltas, self.direction)


class Result(NamedTuple):
    """Where a run ended."""

    w: np.ndarray
    server: Any
    own: list
    cohorts: list
    accuracies: list
    models: list


_FEDAVG = {
    "init_server": lambda w, num_clients: None,
    "init_client": lambda w: None,
    "broadcast": lambda state: state,
    "gather": None,
    "client": lambda c, w, received, own: ({"update": c.train().update}, own),
    "server": lambda w, state, upload, numbers, cohort: (
        w - numbers["server_learning_rate"] * upload["update"],
        state,
    ),
    "personal": lambda c, w, received, own: w,
}


def algorithm(name):
    """The functions of `algorithms/NAME.py`, FedAvg's where it has none of its own."""
    module = importlib.import_module(f"tests.plain.algorithms.{name}")
    return SimpleNamespace(**{k: getattr(module, k, f) for k, f in _FEDAVG.items()})


def cohort(key, num_clients, size):
    """The clients of a round whose key is given."""
    if size == num_clients:
        return list(range(num_clients))
    server_key = jax.random.fold_in(key, np.uint32(2**32 - 1))
    draws = np.asarray(jax.random.bits(server_key, (num_clients,), np.uint32)).astype(np.int64)
    # the largest of 30 bits; of equals, the first
    return sorted(np.argsort(-(draws >> 2), kind="stable")[:size].tolist())


def run(world, name, numbers, regulator, regulator_numbers, w, key, rounds, cohort_size):
    """Runs some rounds of an algorithm under a regulator, both by name."""
    method = algorithm(name)
    rule = importlib.import_module(f"tests.plain.regulators.{regulator}")
    num_clients = len(world.rows)
    memories = [getattr(rule, "remember", lambda: None)() for _ in range(num_clients)]

    def regulate(client, deltas, direction):
        update, memories[client] = rule.regulate(
            deltas, regulator_numbers, memories[client], direction
        )
        return update

    state, before, cohorts = method.init_server(w, num_clients), w, []
    owns = [method.init_client(w) for _ in range(num_clients)]

    def at(number, t, weight, key):
        one = jax.random.fold_in(jax.random.fold_in(key, t), number)
        eta, direction = numbers["learning_rate"], before - w
        return Client(world, number, w, numbers, eta, weight, one, direction, regulate)

    for t in range(rounds):
        chosen = cohort(jax.random.fold_in(key, t), num_clients, cohort_size)
        cohorts.append(chosen)
        sizes = {i: len(world.rows[i]) for i in chosen}
        total, received, uploads = sum(sizes.values()), method.broadcast(state), {}
        present = {i: at(i, t, sizes[i] / total, key) for i in chosen if sizes[i]}
        if method.gather is not None:
            sent = {i: method.gather(c, w, received, owns[i]) for i, c in present.items()}
            received = (received, sum(sizes[i] / total * x for i, x in sent.items()))
        for i, c in present.items():
            uploads[i], owns[i] = method.client(c, w, received, owns[i])
        upload = {
            "update": sum(sizes[i] / total * u["update"] for i, u in uploads.items()),
            "weighted": _summed({i: sizes[i] / total for i in uploads}, uploads, "weighted"),
            "uniform": _summed(dict.fromkeys(uploads, 1 / cohort_size), uploads, "uniform"),
            "each": {i: u.get("each") for i, u in uploads.items()},
        }
        after, state = method.server(w, state, upload, numbers, chosen)
        before, w = w, after
    accuracies, models = [], []
    for i, rows in enumerate(world.tests):
        late = jax.random.fold_in(jax.random.fold_in(key, rounds), np.uint32(2**32 - 10))
        c = Client(
            world, i, w, numbers, numbers["learning_rate"], 1.0, jax.random.fold_in(late, i),
            before - w, regulate,
        )  # fmt: skip
        judged = method.personal(c, w, method.broadcast(state), owns[i])
        models.append(judged)
        outputs = world.outputs(jnp.asarray(judged), jnp.asarray(world.inputs[rows]))
        hits = np.asarray(outputs).argmax(axis=1) == world.labels[rows]
        accuracies.append(float(hits.mean()) if len(rows) else None)
    return Result(w, state, owns, cohorts, accuracies, models)


def _summed(weights, uploads, name):
    """Σ over clients of weight times one part of their uploads, a value or a dict of values."""
    parts = {i: u[name] for i, u in uploads.items() if u.get(name) is not None}
    if not parts:
        return None
    if isinstance(next(iter(parts.values())), dict):
        return {
            key: sum(weights[i] * part[key] for i, part in parts.items())
            for key in next(iter(parts.values()))
        }
    return sum(weights[i] * part for i, part in parts.items())
