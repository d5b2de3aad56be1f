"""Validation examples: who is held out, that nobody trains on them, and what they say."""

import jax
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr import runs
from fedjax_ecgr.runs import Choice, RunConfig


def test_a_share_of_each_class_is_held_out_the_same_every_time():
    whole, first, again = fx.datasets.digits(), *(
        fx.datasets.with_validation(fx.datasets.digits(), 0.1) for _ in range(2)
    )  # fmt: skip
    rows = np.concatenate([first.train.inputs, first.validation.inputs])
    assert sorted(map(bytes, rows)) == sorted(map(bytes, whole.train.inputs))
    assert np.array_equal(first.test.inputs, whole.test.inputs)
    for one, other in zip(jax.tree.leaves(first[1:]), jax.tree.leaves(again[1:]), strict=True):
        np.testing.assert_array_equal(one, other)
    held, all_ = (np.bincount(x.labels) for x in (first.validation, whole.train))
    assert np.abs(held - 0.1 * all_).max() <= 0.5


def test_sequences_are_held_out_of_each_owner_s():
    rng = np.random.default_rng(0)
    owners = np.repeat(["a", "b", "c"], [10, 20, 30])
    tokens = rng.integers(0, 5, (60, 4)).astype(np.int32)
    data = fx.datasets.arrays(
        tokens, tokens, tokens[:6], tokens[:6], vocabulary=5, num_classes=5, train_owners=owners
    )
    split = fx.datasets.with_validation(data, 0.2)
    assert np.bincount(split.validation.owners).tolist() == [2, 4, 6]
    assert np.bincount(split.train.owners).tolist() == [8, 16, 24]


def test_validation_is_an_evaluation_of_its_own_and_changes_nothing_else():
    data = fx.datasets.with_validation(fx.datasets.digits(), 0.2)
    clients = fx.partition.dirichlet(data.train, num_clients=4, alpha=0.5, seed=0)
    model, method = fx.models.logistic_regression(data.spec), fx.fedavg(learning_rate=0.05)
    tables = [
        fx.simulate(method, model, clients, rounds=3, eval_every=2, placement="scan", **tests).table
        for tests in (
            {"test": data.test, "validation": data.validation},
            {"test": data.validation},
            {"test": data.test},
        )
    ]
    both, on_validation, on_test = tables
    for name in ("loss", "accuracy"):
        own = on_validation[f"test_{name}"]
        np.testing.assert_array_equal(both[f"validation_{name}"], own)
        assert np.isnan(on_test[f"validation_{name}"]).all()
        assert np.isnan(own).tolist() == [True, False, False]
    for name, column in on_test.items():
        if not name.startswith("validation"):
            np.testing.assert_array_equal(both[name], column)


def test_a_configuration_holds_them_out_before_clients_have_theirs():
    config = RunConfig(rounds=2, validation_fraction=0.25, num_clients=3)
    built, split = runs.build(config), fx.datasets.with_validation(fx.datasets.digits(), 0.25)
    assert built.inputs.data.sizes.sum() == len(split.train.labels)
    held = built.inputs.tests.validation.examples
    np.testing.assert_array_equal(held.inputs, split.validation.inputs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction: 1.0 is not allowed"),
        (
            {"validation_fraction": 0.1, "algorithm": Choice("ditto"), "client_test_fraction": 0.2},
            "validation_fraction: 0.1 is not allowed with ditto",
        ),
        (
            {
                "validation_fraction": 0.1,
                "partition": Choice("noise"),
                "client_test_fraction": 0.2,
            },
            "validation_fraction: 0.1 is not allowed with noise",
        ),
    ],
)
def test_what_no_validation_is_for_is_refused(options, said):
    with pytest.raises(fx.InputError, match=said):
        runs.build(RunConfig(**options))


def test_bad_validation_is_refused_in_python():
    data = fx.datasets.digits()
    clients = fx.partition.iid(data.train, num_clients=2)
    model = fx.models.logistic_regression(data.spec)
    with pytest.raises(fx.InputError, match="without test examples"):
        fx.simulation(fx.fedavg(), model, clients, validation=data.test)
    with pytest.raises(fx.InputError, match=r"validation: .* it must be Examples"):
        fx.simulation(fx.fedavg(), model, clients, test=data.test, validation=data)
    with pytest.raises(fx.InputError, match="dataset: "):
        fx.datasets.with_validation(data.train)
