"""Every registered algorithm, under every regulator and placement, is its plain loop: to 1e-9.

And none lacks a field, bakes a number in, or drops its regulator. `make test` runs each algorithm
with each regulator and with each placement, but not all three crossed; `pytest tests/algorithms
--all-placements` does.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fedjax_ecgr as fx
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.engine.client import Slot, at_client
from fedjax_ecgr.engine.evaluation import evaluate_clients
from fedjax_ecgr.engine.local_steps import Extent
from fedjax_ecgr.engine.state import starting_point
from fedjax_ecgr.regulators import REGULATORS
from tests.plain import federation as plain

FEATURES, CLASSES, BATCH, EPOCHS, ROUNDS, COHORT = 3, 3, 4, 2, 3, 4
SIZES = [12, 5, 0, 17, 1, 8]  # ragged: partial batches, a client without data, one of one example
HIDDEN = 4
LENGTH = 16  # rounds that a program holds: a patience matters only once a loss fell for as long
PLACEMENTS = {
    "scan": {"placement": "scan"},
    "vmap": {"placement": "vmap", "chunk_size": 3},
    "devices": {"placement": "devices", "num_devices": 2, "chunk_size": 2},
}
LOOSER: dict[str, float] = {}
"""Algorithms that agree to less than 1e-9, each with its reason beside it."""


@cache
def federation():
    """Clients of the given sizes, with test examples of their own."""
    rng = np.random.default_rng(0)
    owners = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    inputs = rng.normal(size=(len(owners), FEATURES)) + owners[:, None] / 3
    labels = ((inputs.sum(axis=1) * 2).astype(int) + owners) % CLASSES
    examples = fx.Examples(inputs, labels.astype(np.int32), mean=np.array(0.5), std=np.array(2.0))
    return fx.partition.hold_out(from_owners(examples, owners, len(SIZES)), 0.3)


@cache
def model():
    """Two layers in float64. Without biases: what each leaf costs is compiled for every method."""

    def init(key):
        shapes = {"fc1": (FEATURES, HIDDEN), "fc2": (HIDDEN, CLASSES)}
        keys = jax.random.split(key, len(shapes))
        return {
            name: jax.random.uniform(k, shape, float, -0.5, 0.5)
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }, {}

    def features(params, stats, inputs, **_):
        return jax.nn.relu(inputs @ params["fc1"])

    def apply(params, stats, inputs, **_):
        return features(params, stats, inputs) @ params["fc2"], stats

    return fx.Model("two layers", init, apply, features, head=("fc2",))


def first_parameters():
    return model().init(jax.random.fold_in(jax.random.key(7), np.uint32(2**32 - 1)))[0]


def first_vector():
    return in_one(jax.device_get(first_parameters()))


@cache
def world():
    train, test = federation()
    params = first_parameters()
    _, unravel = ravel_pytree(params)
    head = {name: np.full(leaf.shape, name == "fc2") for name, leaf in params.items()}

    def features(w, inputs):
        return jax.nn.relu(jnp.dot(inputs, unravel(w)["fc1"]))

    def outputs(w, inputs):
        return jnp.dot(features(w, inputs), unravel(w)["fc2"])

    def rows(clients):
        return [r[:n] for r, n in zip(clients.indices, clients.sizes, strict=True)]

    return plain.World(
        (train.examples.inputs - 0.5) / 2, train.examples.labels, rows(train), rows(test),
        train.indices.shape[1], outputs, features, np.asarray(ravel_pytree(head)[0]), CLASSES,
        BATCH, EPOCHS,
    )  # fmt: skip


def method(algorithm, regulator):
    return ALGORITHMS[algorithm](
        regulator=REGULATORS[regulator](), learning_rate=0.05, weight_decay=0.01
    )


@cache
def expected(algorithm, regulator):
    one = method(algorithm, regulator)
    numbers = {name: float(x) for name, x in one.hyperparameters.items()}
    of_regulator = {name: float(x) for name, x in one.regulator.hyperparameters.items()}
    return plain.run(
        world(), algorithm, numbers, regulator, of_regulator,
        first_vector(), jax.random.key(7), ROUNDS, COHORT,
    )  # fmt: skip


def combinations(whole):
    """Each algorithm with each regulator, and under each placement; or all of them."""
    in_turn = [*PLACEMENTS, "scan"]  # which is the quickest to compile
    for i, algorithm in enumerate(ALGORITHMS):
        for j, regulator in enumerate(REGULATORS):
            for placement in PLACEMENTS if whole else [in_turn[(i + j) % len(in_turn)]]:
                yield algorithm, regulator, placement


def pytest_generate_tests(metafunc):
    if "placement" in metafunc.fixturenames:
        cases = list(combinations(metafunc.config.getoption("--all-placements")))
        metafunc.parametrize(
            ("algorithm", "regulator", "placement"), cases, ids=map("-".join, cases)
        )


def in_one(tree):
    """The leaves as one vector, without a program of JAX's."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def assert_same(actual, wanted, tolerance, where):
    """Compares an engine's state with a plain one: None, a flat vector, or a dict of such."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            inner = actual[name] if isinstance(actual, dict) else getattr(actual, name)
            assert_same(inner, value, tolerance, f"{where}.{name}")
    elif wanted is not None:
        wanted = np.ravel(wanted)
        flat = in_one(actual)
        assert flat.shape == wanted.shape, where
        np.testing.assert_allclose(flat, wanted, rtol=0, atol=tolerance, err_msg=where)


def personal_models(setting, data, state, key, numbers, part=0):
    """The parameters that each client is judged by, or its statistics: [clients, P]."""
    work, numbers = setting.work, jax.tree.map(jnp.asarray, numbers)
    late = jax.random.fold_in(jax.random.fold_in(key, state.round), np.uint32(2**32 - 10))
    start = starting_point(setting, state, late, numbers)
    data = jax.tree.map(jnp.asarray, data)

    def one(client):
        size = data.sizes[client]
        slot = Slot(client, Extent(work.num_steps(size), size), jnp.ones(()), ())
        memories = jax.tree.map(lambda x: x[client], state.clients)
        impl = jax.random.key_impl(key)
        model, local = at_client(work, start, memories, data, slot, None, impl)
        return ravel_pytree(work.algorithm.personal(model, local)[part])[0]

    return jax.lax.map(one, jnp.arange(len(data.sizes), dtype=jnp.int32))


def accuracies_and_models(setting, train, test, state, key, numbers):
    """What clients are judged to be, and by which parameters."""
    accuracies = evaluate_clients(setting, train, test, state, key, numbers)
    return accuracies, personal_models(setting, train, state, key, numbers)


def assert_ended(state, wanted, tolerance):
    """Compares the parameters, and what the server and each client keep, with the plain loop's."""
    ended = jax.device_get(state)
    assert_same(ended.params, wanted.w, tolerance, "parameters")
    public = wanted.server[0] if isinstance(wanted.server, tuple) else wanted.server
    if jax.tree.leaves(ended.server.algorithm):  # else it is the server optimiser's, in the params
        assert_same(ended.server.algorithm, public, tolerance, "server")
    for i, own in enumerate(wanted.own):
        kept = jax.tree.map(lambda x, i=i: x[i], ended.clients.algorithm)
        assert_same(kept, own, tolerance, f"client {i}")


@pytest.mark.usefixtures("x64")
def test_an_algorithm_is_its_plain_loop(algorithm, regulator, placement):
    train, test = federation()
    chosen = method(algorithm, regulator)
    assert chosen.name == algorithm
    assert chosen.regulator.name == REGULATORS[regulator]().name
    for name in ("learning_rate", "momentum", "weight_decay", "server_learning_rate"):
        assert name in chosen.hyperparameters
    built = fx.simulation(
        chosen, model(), train, client_test=test, cohort_size=COHORT,
        batch_size=BATCH, local_epochs=EPOCHS, **PLACEMENTS[placement],
    )  # fmt: skip
    key = jax.random.key(7)

    def end(numbers, rounds):
        return built.block(built.init(key), key, numbers, rounds, LENGTH)

    state, infos = end(built.hyperparameters, ROUNDS)
    wanted, tolerance = expected(algorithm, regulator), LOOSER.get(algorithm, 1e-9)
    assert infos.cohort[:ROUNDS].tolist() == wanted.cohorts
    assert_ended(state, wanted, tolerance)
    moved = first_vector() - wanted.w
    assert np.abs(moved).max() > 1e-3 or algorithm == "local_only"
    assert np.isfinite(infos.train_loss[:ROUNDS]).all()
    if chosen.personal is not None:
        judge = jax.jit(partial(accuracies_and_models, built.setting, train, test))
        accuracies, models = judge(state, key, built.hyperparameters)
        for accuracy, one in zip(accuracies, wanted.accuracies, strict=True):
            assert one is None or abs(accuracy - one) < 1e-9
        np.testing.assert_allclose(models, wanted.models, rtol=0, atol=tolerance)
    if regulator == "ecgr":
        check_that_keeping_everything_is_no_regulation(algorithm, built.hyperparameters, end)
        check_that_numbers_matter(built, end)


def check_that_keeping_everything_is_no_regulation(algorithm, numbers, end):
    for everything in ({"beta": 1.0}, {"select_ratio": 1.0}):
        free, _ = end({**numbers, "regulator": {**numbers["regulator"], **everything}}, ROUNDS)
        assert_ended(free, expected(algorithm, "identity"), 1e-13)


def check_that_numbers_matter(built, end):
    """One that changes nothing was baked into the program."""
    numbers = jax.tree.map(float, built.hyperparameters)

    def ended(numbers):
        state = jax.device_get(end(numbers, LENGTH)[0])
        return in_one((state.params, state.clients.algorithm))

    same, sends = ended(numbers), built.setting.bytes_up > 0
    for path, value in jax.tree.leaves_with_path(numbers):
        other = jax.tree.map_with_path(
            lambda p, x, path=path: x * 0.5 + 0.15 if p == path else x, numbers
        )
        if path[-1].key == "decay_every":
            other["algorithm"]["decay"] = 0.5
            other["algorithm"]["decay_every"] = 1.0
        # who sends nothing has nothing to regulate, and the server nothing to step along
        for_update = path[0].key == "regulator" or path[-1].key == "server_learning_rate"
        unused = path[-1].key == "decay" or (for_update and not sends)
        assert unused or not np.array_equal(ended(other), same), (path, value)
