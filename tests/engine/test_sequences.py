"""Token inputs, and several labels an example with padding: against loops over single labels."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.data.datasets import arrays
from fedjax_ecgr.data.partition import PARTITIONS

VOCABULARY, LENGTH, BATCH, ROUNDS = 5, 4, 2, 2
SIZES = [3, 5, 2]


def tokens(seed, number):
    """Sequences of every length from 1, labels -1 behind their ends."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, VOCABULARY, (number, LENGTH))
    labels = (inputs + np.cumsum(inputs, axis=1)) % VOCABULARY
    ends = rng.integers(1, LENGTH + 1, (number, 1))
    return inputs, np.where(np.arange(LENGTH) < ends, labels, -1)


def widened(inputs, labels):
    """The same, with two positions more of padding: any token, no label."""
    return (
        np.concatenate([inputs, np.full((len(inputs), 2), 3)], axis=1),
        np.concatenate([labels, np.full((len(inputs), 2), -1)], axis=1),
    )


def dataset(change=lambda *both: both, owners=True):
    train, test = tokens(0, sum(SIZES)), tokens(1, 6)
    whose = {
        "train_owners": np.repeat(np.arange(3), SIZES),
        "test_owners": [0, 0, 1, 1, 1, 2] if owners else None,
    }
    return arrays(*change(*train), *change(*test), vocabulary=VOCABULARY, **whose)


@cache
def model(weight=0.3):
    """A table of outputs by token: what is learnt of a position depends on it alone."""

    def init(key):
        table = jax.random.normal(key, (VOCABULARY, VOCABULARY), float)
        return {"table": weight * table, "fc1": {"bias": jnp.zeros(VOCABULARY, float)}}, {}

    def apply(params, stats, inputs, **_):
        assert inputs.dtype == jnp.int32
        outputs = params["table"][inputs]
        return outputs + jnp.broadcast_to(params["fc1"]["bias"], outputs.shape), stats

    return fx.models.Model("table", init, apply, None, ("fc1",))


def simulate(algorithm, data, **options):
    clients = fx.partition.natural(data.train)
    return fx.simulate(
        algorithm,
        model(),
        clients,
        test=data.test,
        rounds=ROUNDS,
        batch_size=BATCH,
        shuffle=False,
        seed=3,
        **{"placement": "scan", **options},
    )


def gradient(table, bias, inputs, labels):
    """Sum over single labels of a cross-entropy's gradient, the sum of losses, how many, hits."""
    into, own, loss, number, hits = np.zeros_like(table), np.zeros_like(bias), 0.0, 0, 0
    for token, label in zip(inputs.ravel(), labels.ravel(), strict=True):
        if label < 0:
            continue
        outputs = table[token] + bias
        shares = np.exp(outputs - outputs.max())
        shares /= shares.sum()
        pull = shares - np.eye(len(bias))[label]
        into[token] += pull
        own += pull
        loss -= np.log(shares[label])
        hits += np.argmax(outputs) == label
        number += 1
    return into, own, loss, number, hits


def by_loop(data, rate):
    """FedAvg over single labels; returns the table, the bias and each round's mean train loss."""
    first, _ = model().init(jax.random.fold_in(jax.random.key(3), np.uint32(2**32 - 1)))
    table, bias = np.asarray(first["table"], float), np.zeros(VOCABULARY)
    starts, losses = np.cumsum([0, *SIZES]), []
    for _ in range(ROUNDS):
        ends, means = [], []
        for start, size in zip(starts, SIZES, strict=False):
            w, b, total, seen = table.copy(), bias.copy(), 0.0, 0
            for at in range(start, start + size, BATCH):
                rows = slice(at, min(at + BATCH, start + size))
                into, own, loss, number, _ = gradient(
                    w, b, data.train.inputs[rows], data.train.labels[rows]
                )
                w, b = w - rate * into / number, b - rate * own / number
                total, seen = total + loss, seen + number
            ends.append((w, b))
            means.append(total / seen)
        weights = np.array(SIZES) / sum(SIZES)
        table = sum(p * w for p, (w, _) in zip(weights, ends, strict=True))
        bias = sum(p * b for p, (_, b) in zip(weights, ends, strict=True))
        losses.append(weights @ means)
    return table, bias, losses


@pytest.mark.parametrize("placement", ["scan", "vmap"])
def test_rounds_and_evaluation_count_labels_one_by_one(placement):
    with jax.enable_x64(True):
        data = dataset()
        history = simulate(fx.fedavg(learning_rate=0.5, momentum=0.0), data, placement=placement)
        table, bias, losses = by_loop(data, 0.5)
        np.testing.assert_allclose(history.state.params["table"], table, rtol=1e-10)
        np.testing.assert_allclose(
            history.state.params["fc1"]["bias"], bias, rtol=1e-10, atol=1e-12
        )
        np.testing.assert_allclose(history.table["train_loss"], losses, rtol=1e-10)

        test, owners = data.test, np.asarray(data.test.owners)
        _, _, loss, number, hits = gradient(table, bias, test.inputs, test.labels)
        assert number < test.labels.size
        assert history.table["test_loss"][-1] == pytest.approx(loss / number, rel=1e-9)
        assert history.table["test_accuracy"][-1] == pytest.approx(hits / number)
        own = [
            gradient(table, bias, test.inputs[owners == k], test.labels[owners == k])
            for k in range(3)
        ]
        each = np.array([hits / number for *_, number, hits in own])
        assert history.table["client_accuracy_mean"][-1] == pytest.approx(each.mean())


def test_clients_without_tests_of_their_own_are_judged_by_their_labels():
    with jax.enable_x64(True):
        data = dataset(owners=False)
        history = simulate(fx.fedavg(learning_rate=0.5, momentum=0.0), data)
        table, bias, _ = by_loop(data, 0.5)
        inputs, labels = data.test.inputs.ravel(), data.test.labels.ravel()
        hit = np.argmax(table[inputs] + bias, axis=-1) == labels
        by_label = np.array([hit[labels == c].mean() for c in range(VOCABULARY)])
        trained = np.split(np.asarray(data.train.labels), np.cumsum(SIZES)[:-1])
        shares = np.array([np.bincount(y[y >= 0], minlength=VOCABULARY) for y in trained])
        each = (shares / shares.sum(axis=1, keepdims=True)) @ by_label
        assert history.table["client_accuracy_mean"][-1] == pytest.approx(each.mean())


# those that count labels, average losses or take gradients in a way of their own
@pytest.mark.parametrize(
    "name", ["scaffold", "mime", "qfedavg", "fedlc", "fedrs", "perfedavg", "apfl", "pfedme"]
)
def test_padding_changes_nothing(name):
    with jax.enable_x64(True):
        method = ALGORITHMS[name](learning_rate=0.5, regulator=fx.ecgr(beta=0.5))
        as_is, wider = (simulate(method, dataset(change)) for change in (lambda *x: x, widened))
        for field in ("train_loss", "test_loss", "test_accuracy", "client_accuracy_mean"):
            found, wanted = wider.table[field], as_is.table[field]
            np.testing.assert_allclose(found, wanted, rtol=1e-12, err_msg=field)
        chex.assert_trees_all_close(wider.state.params, as_is.state.params, rtol=1e-12)


def test_flipped_labels_leave_padding_alone():
    with jax.enable_x64(True):
        attacked = {"attack": fx.attacks.label_flip(), "malicious_share": 0.4}
        as_is, wider = (
            simulate(fx.fedavg(learning_rate=0.5, momentum=0.0), dataset(change), **attacked)
            for change in (lambda *x: x, widened)
        )
        honest = simulate(fx.fedavg(learning_rate=0.5, momentum=0.0), dataset())
        np.testing.assert_allclose(wider.table["train_loss"], as_is.table["train_loss"], rtol=1e-12)
        assert not np.allclose(as_is.table["train_loss"], honest.table["train_loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_inputs": [[0, 9]]}, r"train_inputs\[0, 1\]: 9 is not allowed, .* from 0 to 4"),
        ({"train_inputs": [0, 1]}, r"train_inputs: shape \(2,\) is not allowed"),
        ({"train_labels": [[0, -2]]}, r"train_labels\[0, 1\]: -2 is not allowed, .* from -1 to"),
        ({"test_labels": [[0, 1, 1]]}, r"test_labels: shape \(1, 3\) .* must be \(1,\), or"),
        ({"vocabulary": 0}, r"vocabulary: 0 is not allowed"),
    ],
)
def test_what_is_wrong_with_tokens(change, message):
    fields = ("train_inputs", "train_labels", "test_inputs", "test_labels")
    given = {field: [[0, 1]] for field in fields}
    with pytest.raises(fx.InputError, match=message):
        arrays(**{"vocabulary": VOCABULARY, **given, **change})


@pytest.mark.parametrize("name", ["dirichlet", "niid_dirichlet", "shards", "mixture"])
def test_labels_of_positions_cannot_divide_examples(name):
    with pytest.raises(fx.InputError, match="for a division by label"):
        PARTITIONS[name](dataset().train, num_clients=2)


@pytest.mark.parametrize("name", ["noise", "colour", "rotation"])
def test_tokens_cannot_be_shifted(name):
    with pytest.raises(fx.InputError, match="inputs: tokens are not allowed"):
        PARTITIONS[name](dataset().train, num_clients=2)


def test_outputs_must_be_one_a_label():
    data = dataset()
    pooled = fx.models.gru(data.spec._replace(target_shape=()))
    with pytest.raises(fx.InputError, match=r"shape \(2, 5\) .* must be \(2, 4, classes\)"):
        fx.simulation(fx.fedavg(), pooled, fx.partition.natural(data.train))
