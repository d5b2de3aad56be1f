"""What a run records, against NumPy; what it refuses; and how it ends when it diverges."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fedjax_ecgr as fx
from fedjax_ecgr import metrics
from fedjax_ecgr.data import from_assignment, from_owners, label_counts
from fedjax_ecgr.models.base import Model

FEATURES, CLASSES = 3, 4


def federation(owned=True, seed=0):
    """Five clients, one of them without data, and a test set; owners on both if asked for."""
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat([0, 1, 3, 4], [7, 5, 9, 3]))
    train = examples(rng, len(owners), owners if owned else None)
    test_owners = rng.permutation(np.repeat([0, 1, 3], [6, 4, 7]))
    return from_owners(train, owners, 5), examples(rng, 17, test_owners if owned else None)


def examples(rng, number, owners):
    return fx.Examples(
        rng.normal(size=(number, FEATURES)).astype(np.float32),
        rng.integers(0, CLASSES - 1, number).astype(np.int32),  # no test example of the last class
        np.array(0.1, np.float32),
        np.array(2.0, np.float32),
        owners,
    )


@cache
def model():
    return fx.models.logistic_regression(fx.Spec((FEATURES,), CLASSES))


def simulate(data, test=None, **options):
    method = options.pop("method", fx.fedavg(regulator=fx.ecgr()))
    return fx.simulate(
        method, model(), data, **{"rounds": 3, "test": test, "placement": "scan", **options}
    )


@cache
def standard(owned=True):
    """A simulation as `simulate` makes it, compiled once for all that run it."""
    data, test = federation(owned)
    return fx.simulation(fx.fedavg(regulator=fx.ecgr()), model(), data, test=test, placement="scan")


def judged_by_numpy(history, test):
    kernel, bias = (np.asarray(history.state.params["fc1"][name]) for name in ("kernel", "bias"))
    logits = (np.asarray(test.inputs) - 0.1) / 2 @ kernel + bias
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probability[np.arange(len(logits)), test.labels], logits.argmax(1) == test.labels


@pytest.mark.parametrize("placement", ["scan", "devices"])
def test_a_program_of_the_users_own_may_come_first(placement):
    """What is put on devices for it, while it is traced, serves all that come behind it."""
    data, test = federation()
    built = fx.simulation(fx.fedavg(), model(), data, test=test, placement=placement)
    key = jax.random.key(0)
    state, info = jax.jit(built.round)(built.init(key), key, built.hyperparameters)
    accuracy = built.evaluate(state).accuracy
    table = fx.run(built, rounds=1).table
    np.testing.assert_allclose(table["train_loss"], info.train_loss, rtol=1e-6)
    np.testing.assert_allclose(table["test_accuracy"], accuracy, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [4, 17, 100])
def test_test_accuracy_and_loss_are_those_of_all_examples(batch_size):
    data, test = federation()
    history = simulate(data, test, eval_batch_size=batch_size)
    losses, hits = judged_by_numpy(history, test)
    np.testing.assert_allclose(history.table["test_loss"][-1], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(history.table["test_accuracy"][-1], hits.mean(), rtol=1e-6)


@pytest.mark.parametrize("owned", [True, False])
def test_client_accuracy_is_that_of_its_own_examples_or_of_its_labels(owned):
    data, test = federation(owned)
    history = fx.run(standard(owned), rounds=3)
    _, hits = judged_by_numpy(history, test)
    if owned:
        each = np.array([hits[test.owners == client].mean() for client in (0, 1, 3)])
    else:
        held = label_counts(data, CLASSES) * np.isin(np.arange(CLASSES), test.labels)
        by_class = [
            hits[test.labels == c].mean() if c in test.labels else 0 for c in range(CLASSES)
        ]
        each = np.array([row @ by_class / row.sum() for row in held if row.sum()])
        assert len(each) == 4  # the client without data is not judged
    table = history.table
    np.testing.assert_allclose(table["client_accuracy_mean"][-1], each.mean(), rtol=1e-5)
    np.testing.assert_allclose(table["client_accuracy_std"][-1], each.std(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(table["client_accuracy_worst"][-1], each.min(), atol=1e-7)


def test_test_examples_of_owners_judge_no_other_clients():
    data, test = federation()
    others = from_owners(data.examples, (np.asarray(data.examples.owners) + 1) % 5, 5)
    nobodys = test._replace(owners=None)
    for name in ("client_accuracy_mean", "client_accuracy_worst"):
        found, by_label = (simulate(others, of).table[name] for of in (test, nobodys))
        np.testing.assert_array_equal(found, by_label)
    with pytest.raises(fx.InputError, match="client_test: None is not allowed with local_only"):
        simulate(others, test, method=fx.local_only())


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_numpys_whole_numbers_count(kind):
    data, test = federation()
    counts = {"batch_size": 4, "eval_batch_size": 8, "local_epochs": 2, "cohort_size": 3}
    counts |= {"rounds": 3, "eval_every": 2, "chunk_size": 2}
    found, plain = (
        simulate(data, test, **{name: of(n) for name, n in counts.items()}, placement="vmap").table
        for of in (kind, int)
    )
    for name, column in plain.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)


def test_worst_tenth_is_rounded_up():
    accuracies = np.random.default_rng(0).uniform(size=21)
    summary = metrics.client_accuracy(jnp.asarray(accuracies, jnp.float32))
    np.testing.assert_allclose(summary.worst, np.sort(accuracies)[:3].mean(), rtol=1e-6)


def test_round_diagnostics_are_their_formulas(x64):
    """Training loss, divergence and variance from each client's own round, one by one."""
    data, _ = federation()
    built = fx.simulation(fx.fedavg(regulator=fx.ecgr()), model(), data, batch_size=100)
    key = jax.random.key(0)
    start = built.init(key)
    _, info = jax.jit(built.round)(start, key, built.hyperparameters)
    weights = np.asarray(data.sizes) / np.asarray(data.sizes).sum()
    updates, drifts, losses = [], [], []
    for client, size in enumerate(data.sizes):
        if size == 0:
            updates.append(np.zeros(FEATURES * CLASSES + CLASSES))
            drifts.append(0.0)
            losses.append(0.0)
            continue
        only = from_assignment(data.examples, [data.indices[client, :size]])
        alone = fx.simulation(fx.fedavg(), model(), only, batch_size=100)
        # one full batch is one step: the order of examples does not matter, nor does ECGR
        after, own = jax.jit(alone.round)(alone.init(key), key, alone.hyperparameters)
        moved = jax.tree.map(lambda a, b: np.asarray(a - b).ravel(), start.params, after.params)
        updates.append(np.concatenate(jax.tree.leaves(moved)))
        drifts.append(np.linalg.norm(updates[-1]))
        losses.append(float(own.train_loss))
    mean = weights @ np.array(updates)
    variance = sum(w * np.sum((u - mean) ** 2) for w, u in zip(weights, updates, strict=True))
    np.testing.assert_allclose(info.update_variance, variance, rtol=1e-5)
    np.testing.assert_allclose(info.drift, weights @ drifts, rtol=1e-5)
    np.testing.assert_allclose(info.train_loss, weights @ losses, rtol=1e-5)
    assert info.clients.num_steps.tolist() == [1, 1, 0, 1, 1]


def test_bytes_are_those_of_the_messages_and_ecgr_adds_none():
    data, _ = federation()
    parameters = 4 * (FEATURES * CLASSES + CLASSES)  # float32
    for method, up, down in (
        (fx.fedavg, parameters, parameters),
        (fx.fedprox, parameters, parameters),
        (fx.fednova, parameters + 4, parameters),  # τ
        (fx.scaffold, 2 * parameters, 2 * parameters),  # control variates
    ):
        for regulator in (fx.identity(), fx.ecgr()):
            built = fx.simulation(method(regulator=regulator), model(), data)
            assert (built.setting.bytes_up, built.setting.bytes_down) == (up, down)
    table = fx.run(standard(), rounds=1).table
    # one client has no data: it is not asked
    assert table["bytes_up"].tolist() == [4 * parameters]
    assert table["bytes_down"].tolist() == [4 * parameters]


def test_rounds_are_evaluated_when_asked_and_at_the_end():
    seen = []
    history = fx.run(standard(), rounds=5, eval_every=2, on_progress=seen.append)
    evaluated = ~np.isnan(history.table["test_accuracy"])
    assert evaluated.tolist() == [False, True, False, True, True]
    assert [p.round for p in seen] == [2, 4, 5]
    assert all(np.isfinite(history.table["train_loss"]))
    assert history.cohorts.tolist() == [[0, 1, 2, 3, 4]] * 5
    every = fx.run(standard(), rounds=5)
    for name in ("test_accuracy", "client_accuracy_worst"):
        np.testing.assert_allclose(history.table[name][evaluated], every.table[name][evaluated])


def test_summary_and_curve_metrics():
    history = fx.run(standard(), rounds=4)
    summary = history.summary(target_accuracy=0.0)
    assert summary["rounds"] == 4
    assert summary["rounds_to_target"] == 1
    assert summary["final_accuracy"] == history.table["test_accuracy"][-1]
    assert history.summary(target_accuracy=1.1)["rounds_to_target"] is None
    assert metrics.oscillation(np.array([0.1, 0.4, np.nan, 0.9])) == 0
    assert metrics.oscillation(np.array([0.5])) == 0
    np.testing.assert_allclose(metrics.oscillation(np.array([0.2, 0.6, 0.2])), 0.4)
    untested = simulate(federation()[0]).summary()
    assert "final_accuracy" not in untested


def test_a_run_that_diverges_stops_where_it_began_and_keeps_the_rounds_before():
    """Client 3 alone meets a loss that overflows once the parameters have grown."""
    data, _ = federation()
    inputs = np.array(data.examples.inputs)
    inputs[data.indices[3, : data.sizes[3]]] *= 1e18

    def apply(params, stats, batch, *, mask, train, key):
        return batch * params["w"][None], stats

    def squared(outputs, labels):
        return jnp.sum(jnp.square(outputs), axis=-1)

    growing = Model("growing", lambda key: ({"w": jnp.full(FEATURES, 1e-3)}, {}), apply)
    data = data._replace(examples=data.examples._replace(inputs=inputs))

    def diverge(learning_rate):
        method = fx.fedavg(learning_rate=learning_rate, momentum=0.0)
        with pytest.raises(fx.DivergedError) as caught:
            fx.simulate(method, growing, data, rounds=10, eval_every=4, loss=squared)
        return caught.value

    error = diverge(1e-34)
    assert error.clients == [3]
    assert error.round > 1
    kept = error.history.table
    assert kept["round"].tolist() == list(range(1, error.round))
    assert np.isfinite(kept["train_loss"]).all()
    assert f"round {error.round} on 1 client(s): 3" in str(error)

    at_once = diverge(1e30)
    assert at_once.round == 1
    assert at_once.history.summary()["rounds"] == 0


def test_a_simulation_can_be_run_again_from_parameters_that_were_given():
    """The state is donated to the program; what the user handed in is not."""

    class Net(nnx.Module):
        def __init__(self):
            self.out = nnx.Linear(FEATURES, CLASSES, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.out(x)

    data, test = federation()
    net = Net()
    built = fx.simulation(fx.fedavg(), fx.models.from_nnx(net), data, test=test)
    first, second = (fx.run(built, rounds=2, seed=1) for _ in range(2))
    assert np.array_equal(first.table["train_loss"], second.table["train_loss"])
    assert np.isfinite(net.out.kernel[...]).all()


BAD = [
    ({"rounds": 0}, "rounds: 0 is not allowed, it must be a whole number at least 1"),
    ({"seed": -1}, "seed: -1 is not allowed"),
    ({"seed": 2**32}, "seed: 4294967296 is not allowed, it must be a whole number from 0"),
    ({"loss": lambda o, y: jnp.sum(o)}, "loss: shape () for 2 examples is not allowed"),
    ({"eval_every": 0}, "eval_every: 0 is not allowed"),
    ({"batch_size": 0}, "batch_size: 0 is not allowed"),
    ({"batch_size": 2.5}, "batch_size: 2.5 is not allowed"),
    ({"local_epochs": 0}, "local_epochs: 0 is not allowed"),
    ({"cohort_size": 0}, "cohort_size: 0 is not allowed, it must be a whole number from 1 to 5"),
    ({"cohort_size": 6}, "cohort_size: 6 is not allowed"),
    ({"chunk_size": 0, "placement": "vmap"}, "chunk_size: 0 is not allowed"),
    ({"chunk_size": 2}, "chunk_size: 2 is not allowed, scan takes one by one"),
    ({"num_devices": 3}, "num_devices: 3 is not allowed, scan uses one device"),
    ({"num_devices": 99, "placement": "devices"}, "num_devices: 99 is not allowed"),
    ({"placement": "scam"}, "placement: unknown 'scam', did you mean 'scan'?"),
    ({"eval_batch_size": 0}, "eval_batch_size: 0 is not allowed"),
]


@pytest.mark.parametrize(("options", "said"), BAD)
def test_bad_numbers_are_named_before_anything_is_compiled(options, said):
    data, test = federation()
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    with pytest.raises(fx.InputError) as caught:
        simulate(data, test, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert compiled == []


def broken(**fields):
    data, test = federation()
    replaced = {name: np.array(getattr(data.examples, name)) for name in fields}
    for name, (index, value) in fields.items():
        replaced[name][index] = value
    return data._replace(examples=data.examples._replace(**replaced)), test


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (broken(labels=(3, 4)), "labels[3]: 4 is not allowed, it must be from 0 to 3"),
        (broken(labels=(0, -1)), "labels[0]: -1 is not allowed"),
        (broken(inputs=((2, 1), np.nan)), "inputs[2, 1]: nan is not allowed, it must be finite"),
        (broken(inputs=((2, 1), np.inf)), "inputs[2, 1]: inf is not allowed, it must be finite"),
    ],
)
def test_bad_data_is_named(data, said):
    with pytest.raises(fx.InputError) as caught:
        simulate(*data)
    assert said in str(caught.value)


def test_bad_test_data_and_models_that_do_not_fit_are_named():
    data, test = federation()
    with pytest.raises(fx.InputError, match="test_labels"):
        simulate(data, test._replace(labels=np.full(17, 9, np.int32)))
    wrong = fx.models.logistic_regression(fx.Spec((FEATURES + 1,), CLASSES))
    with pytest.raises(fx.InputError, match=r"model: logistic_regression does not take inputs"):
        fx.simulate(fx.fedavg(), wrong, data, rounds=1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fx.fedavg(learning_rate=0), "learning_rate: 0 is not allowed"),
        (lambda: fx.fedavg(momentum=1.0), "momentum: 1.0 is not allowed, it must be in [0, 1)"),
        (lambda: fx.fedavg(momentun=0.5), "unknown option 'momentun', did you mean 'momentum'?"),
        (lambda: fx.fedavg(mu=0.5), "fedavg: unknown option 'mu'"),
        (lambda: fx.fedprox(mu=-1), "mu: -1 is not allowed"),
        (lambda: fx.fedavg(learning_rate="fast"), "learning_rate: 'fast' is not a number"),
        (lambda: fx.fedavg(decay=0), "decay: 0 is not allowed"),
        (lambda: fx.fedavg(learning_rate="0.1"), "learning_rate: '0.1' is not a number"),
        (lambda: fx.fedavg(regulator="ecgr"), "regulator: 'ecgr' is not allowed"),
        (lambda: fx.ecgr(beta=np.linspace(0, 2, 100)), "beta: 1.0101010101010102 is not allowed"),
        (lambda: fx.scaffold(normaliser="plane"), "unknown 'plane', did you mean 'plain'?"),
    ],
)
def test_bad_algorithms_are_named(make, said):
    with pytest.raises(fx.InputError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"algorithm": {}}, "hyperparameters: 'regulator' is missing"),
        ({"regulator": {"beta": 0.1}}, "of the regulator: 'select_ratio' is missing"),
        ({"regulator": {"betta": 0.5}}, "unknown option 'betta', did you mean 'beta'?"),
    ],
)
def test_hyperparameters_handed_in_are_just_those_there_are(numbers, said):
    built = fx.simulation(fx.fedavg(regulator=fx.ecgr()), model(), federation()[0])
    rest = {} if "algorithm" in numbers else {"algorithm": built.hyperparameters["algorithm"]}
    with pytest.raises(fx.InputError) as caught:
        fx.run(built, rounds=1, hyperparameters={**rest, **numbers})
    assert said in str(caught.value)
