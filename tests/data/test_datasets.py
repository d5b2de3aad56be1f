"""Sources: what they promise of shapes and statistics, and mistakes that are named."""

import doctest
import importlib

import chex
import jax
import numpy as np
import pytest

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import datasets, partition
from fedjax_ecgr.data.datasets import DATASETS
from fedjax_ecgr.data.federated import Spec, check_examples, label_counts
from tests.data import sources


def message(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", DATASETS)
def test_every_source_keeps_the_contract(name, tmp_path):
    options = sources.made(name, tmp_path)
    data = DATASETS[name](**options)
    for part in (data.train, data.test):
        check_examples(part, data.spec.num_classes)
        assert part.inputs.shape[1:] == data.spec.input_shape
        assert part.inputs.dtype in (np.uint8, np.float32, np.int32)
        assert part.labels.shape[1:] == data.spec.target_shape
        assert part.labels.dtype == np.int32
        assert part.mean.dtype == part.std.dtype == np.float32
        assert part.owners is None or part.owners.dtype == np.int32
    np.testing.assert_array_equal(data.train.mean, data.test.mean)
    assert np.unique(data.train.labels).size == data.spec.num_classes
    again = DATASETS[name](**options)
    np.testing.assert_array_equal(data.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(data.test.labels, again.test.labels)
    assert getattr(datasets, name) is DATASETS[name]


def test_digits_are_all_there_and_split_by_class():
    from sklearn.datasets import load_digits

    data = datasets.digits()
    assert data.train.inputs.dtype == np.uint8
    assert data.spec == Spec((8, 8, 1), 10)
    images, labels = load_digits(return_X_y=True)
    ours = np.concatenate([data.train.inputs, data.test.inputs]).reshape(-1, 64)
    our_labels = np.concatenate([data.train.labels, data.test.labels])
    rows = np.column_stack([ours, our_labels]), np.column_stack([images, labels]).astype(int)
    (mine, times), (theirs, expected) = (
        np.unique(part, axis=0, return_counts=True) for part in rows
    )
    np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(times, expected)
    held_out = np.bincount(data.test.labels) / np.bincount(labels)
    assert np.abs(held_out - 0.2).max() < 0.005
    normalised = (data.train.inputs - data.train.mean) / data.train.std
    assert abs(normalised.mean()) < 1e-5
    assert abs(normalised.std() - 1) < 1e-5


def test_digits_are_the_same_where_their_file_is_elsewhere(monkeypatch):
    found = datasets.digits()
    monkeypatch.setattr(importlib.import_module(datasets.digits.__module__), "_FILE", "nowhere")
    chex.assert_trees_all_equal(found, datasets.digits())


@pytest.mark.parametrize(("fraction", "size"), [(1e-9, 10), (0.5, 899), (1 - 1e-9, 1787)])
def test_digits_test_fraction_leaves_each_class_on_either_side(fraction, size):
    data = datasets.digits(test_fraction=fraction)
    assert abs(data.test.labels.size - size) <= 5
    assert np.unique(data.train.labels).size == np.unique(data.test.labels).size == 10


def pooled(data):
    """Inputs, labels and owners of both parts together."""
    train, test = data.train, data.test
    inputs = np.concatenate([train.inputs, test.inputs]).astype(np.float64)
    labels = np.concatenate([train.labels, test.labels])
    return inputs, labels, np.concatenate([train.owners, test.owners])


def client_means(inputs, owners):
    return np.stack([inputs[owners == k].mean(axis=0) for k in np.unique(owners)])


def test_synthetic_covariance_falls_as_the_paper_says():
    inputs, _, owners = pooled(datasets.synthetic(seed=1))
    residuals = inputs - client_means(inputs, owners)[owners]
    variance = np.square(residuals).sum(axis=0) / (owners.size - 30)
    np.testing.assert_allclose(variance, np.arange(1, 61) ** -1.2, rtol=0.1)
    correlation = np.corrcoef(residuals.T) - np.eye(60)
    assert np.abs(correlation).max() < 0.1  # Σ is diagonal


@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_synthetic_beta_spreads_the_clients_inputs(beta):
    """v_k ~ N(B_k, 1): between features variance 1, between clients beta² + 1/60."""
    inputs, _, owners = pooled(datasets.synthetic(beta=beta, num_clients=400, max_size=200, seed=2))
    means = client_means(inputs, owners)
    assert means.var(axis=1).mean() == pytest.approx(59 / 60, rel=0.05)
    assert means.mean(axis=1).var() == pytest.approx(beta**2 + 1 / 60, rel=0.25)


def test_synthetic_alpha_moves_all_logits_alike_and_so_no_label():
    same, moved = (
        datasets.synthetic(alpha=alpha, num_clients=5, max_size=200) for alpha in (0.0, 1.0)
    )
    np.testing.assert_array_equal(same.train.inputs, moved.train.inputs)
    np.testing.assert_array_equal(same.train.labels, moved.train.labels)


def linear_fit(inputs, labels):
    design = np.column_stack([inputs, np.ones(len(inputs))])
    solution, *_ = np.linalg.lstsq(design, np.eye(10)[labels], rcond=None)
    return lambda x: (np.column_stack([x, np.ones(len(x))]) @ solution).argmax(axis=1)


@pytest.mark.parametrize("iid", [True, False])
def test_synthetic_clients_share_a_model_only_where_iid(iid):
    data = datasets.synthetic(num_clients=40, iid=iid, max_size=2000, seed=3)
    inputs, labels, owners = pooled(data)
    order = np.argsort(-np.bincount(owners))
    first, second = owners == order[0], owners == order[1]
    predict = linear_fit(inputs[first], labels[first])
    own = (predict(inputs[first]) == labels[first]).mean()
    other = (predict(inputs[second]) == labels[second]).mean()
    assert own > 0.6
    assert (other > 0.6) == iid
    if iid:
        noise = 5 / np.sqrt(np.bincount(owners).min())
        assert np.abs(client_means(inputs, owners)).max() < noise


def test_synthetic_sizes_owners_and_split():
    data = datasets.synthetic(num_clients=500, max_size=3000, test_fraction=0.2)
    train, test = (np.bincount(part.owners) for part in (data.train, data.test))
    sizes = train + test
    assert train.size == test.size == 500
    assert train.min() >= 1
    assert test.min() >= 1
    np.testing.assert_allclose(test / sizes, 0.2, atol=0.5 / 50)
    assert sizes.min() >= 50
    assert sizes.max() == 3000
    logarithm = np.log(sizes[sizes < 3000] - 50 + 0.5)
    assert np.median(logarithm) == pytest.approx(4.0, abs=0.3)
    assert np.diff(np.quantile(logarithm, [0.25, 0.75]))[0] == pytest.approx(2 * 1.349, abs=0.5)
    clients = partition.natural(data.train, num_clients=500)
    np.testing.assert_array_equal(clients.sizes, train)


def test_synthetic_clients_do_not_depend_on_how_many_there_are():
    few, many = (datasets.synthetic(num_clients=n, max_size=100, seed=9) for n in (3, 6))
    size = few.train.labels.size
    np.testing.assert_array_equal(few.train.inputs, many.train.inputs[:size])
    other = datasets.synthetic(num_clients=3, max_size=100, seed=10)
    assert not np.array_equal(few.train.inputs[:50], other.train.inputs[:50])


@pytest.mark.parametrize("max_size", [2, 3, 50])
def test_synthetic_cap(max_size):
    data = datasets.synthetic(num_clients=4, max_size=max_size)
    np.testing.assert_array_equal(
        np.bincount(data.train.owners) + np.bincount(data.test.owners), max_size
    )


def test_arrays_normalise_uint8_images_per_channel():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3000, 2, 2, 3), dtype=np.uint8)  # several blocks
    images[..., 1] = 9
    data = datasets.arrays(images, np.arange(3000) % 4, images[:5], np.arange(5) % 4)
    assert data.train.inputs is images
    np.testing.assert_allclose(data.train.mean, images.mean(axis=(0, 1, 2)), rtol=1e-6)
    expected = images.std(axis=(0, 1, 2))
    np.testing.assert_allclose(data.train.std, [expected[0], 1.0, expected[2]], rtol=1e-6)
    features = images.reshape(3000, 12)
    data = datasets.arrays(features, np.arange(3000) % 4, features, np.arange(3000) % 4)
    np.testing.assert_allclose(data.train.mean, images.mean(), rtol=1e-6)
    np.testing.assert_allclose(data.train.std, images.std(), rtol=1e-6)
    data = datasets.arrays(features, np.zeros(3000), features, np.zeros(3000), mean=2, std=4)
    assert (data.test.mean, data.test.std) == (2.0, 4.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, bool])
def test_arrays_of_other_numbers_become_float32(dtype):
    inputs = np.ones((4, 2), dtype)
    data = datasets.arrays(inputs, [0.0, 1.0, 2.0, 1.0], inputs, np.uint8([0, 1, 2, 1]))
    assert data.train.inputs.dtype == np.float32
    assert data.train.labels.dtype == data.test.labels.dtype == np.int32
    assert (data.train.mean, data.train.std) == (0.0, 1.0)
    assert data.spec == Spec((2,), 3)


def test_arrays_from_the_device_and_more_classes_than_labels():
    inputs = jax.numpy.ones((2, 3))
    data = datasets.arrays(inputs, jax.numpy.arange(2), inputs, [0, 1], num_classes=7, name="mine")
    assert isinstance(data.train.inputs, np.ndarray)
    assert data.name == "mine"
    assert data.spec.num_classes == 7


def test_arrays_number_owners_with_training_examples_first():
    data = datasets.arrays(
        np.ones((4, 1)), [0, 1, 0, 1], np.ones((3, 1)), [0, 1, 0],
        train_owners=["eve", "bob", "eve", "dan"], test_owners=["amy", "eve", "bob"],
    )  # fmt: skip
    assert data.train.owners.tolist() == [2, 0, 2, 1]
    assert data.test.owners.tolist() == [3, 2, 0]
    assert label_counts(partition.natural(data.train), 2).tolist() == [[0, 1], [0, 1], [2, 0]]


GOOD = {
    "train_inputs": np.ones((3, 2)),
    "train_labels": [0, 1, 2],
    "test_inputs": np.ones((2, 2)),
    "test_labels": [0, 1],
}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"train_labels": [0, 1]}, ["train_labels: shape (2,)", "(3,)"]),
        ({"train_labels": np.eye(3)}, ["train_labels: shape (3, 3)", "(3,)"]),
        ({"train_labels": [0, -1, 2]}, ["train_labels[1]: -1", "0 to 2"]),
        ({"test_labels": [0, 3], "num_classes": 3}, ["test_labels[1]: 3", "0 to 2"]),
        ({"train_labels": [0, 1.5, 2]}, ["train_labels[1]: 1.5", "whole number"]),
        ({"train_labels": [0, 1, np.nan]}, ["train_labels[2]: nan", "whole number"]),
        ({"train_labels": [0, 1, np.inf]}, ["train_labels[2]: inf"]),
        ({"train_labels": [0, 1, 2**40]}, ["train_labels[2]: 1099511627776", "int32"]),
        ({"train_labels": ["a", "b", "c"]}, ["train_labels: <U1", "real numbers"]),
        ({"train_labels": None}, ["train_labels: object"]),
        ({"train_inputs": [[1, 2], [3]]}, ["train_inputs: a ragged list"]),
        ({"train_inputs": [[1, 2], [3, 4], [5, np.nan]]}, ["train_inputs[2, 1]: nan", "finite"]),
        ({"test_inputs": [[1e300, 2], [3, 4]]}, ["test_inputs[0, 0]: inf", "finite"]),
        ({"train_inputs": np.ones((3, 2), complex)}, ["train_inputs: complex128"]),
        ({"train_inputs": np.ones(3)}, ["train_inputs: shape (3,)"]),
        ({"train_inputs": np.uint8(3)}, ["train_inputs: shape ()"]),
        (
            {"train_inputs": np.ones((0, 2)), "train_labels": []},
            ["train_inputs: shape (0, 2)", "at least one example"],
        ),
        (
            {"test_inputs": np.ones((0, 2), np.uint8), "test_labels": []},
            ["test_inputs: shape (0, 2)", "at least one example"],
        ),
        ({"test_inputs": np.ones((2, 3))}, ["test_inputs: shape (2, 3)", "(2,)"]),
        ({"test_inputs": np.ones((2, 2), np.uint8)}, ["test_inputs: uint8", "float32"]),
        ({"num_classes": 0}, ["num_classes: 0"]),
        ({"num_classes": 2.0}, ["num_classes: 2.0"]),
        ({"std": 0.0}, ["std: 0.0", "above 0"]),
        ({"std": [1.0, -1.0]}, ["std[1]: -1.0", "above 0"]),
        ({"std": [1.0, 1.0, 1.0]}, ["std: shape (3,)", "(2,)"]),
        ({"mean": np.nan}, ["mean: nan", "finite"]),
        ({"mean": "grey"}, ["mean: <U4"]),
        ({"train_owners": [0, 1]}, ["train_owners: shape (2,)", "(3,)"]),
        ({"train_owners": ["a", 1, None]}, ["owners: a mix"]),
        ({"test_owners": [0, 1]}, ["train_owners: None"]),
        (
            {"train_owners": [0, 1, 1], "test_owners": [[0, 1]]},
            ["test_owners: shape (1, 2)", "(2,)"],
        ),
    ],
)
def test_mistakes_in_arrays_are_named(options, parts):
    with pytest.raises(InputError) as error:
        datasets.arrays(**{**GOOD, **options})
    assert all(part in message(error) for part in parts)


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("digits", {"test_fraction": 0.0}, ["test_fraction: 0.0", "(0, 1)"]),
        ("digits", {"test_fraction": 1}, ["test_fraction: 1", "(0, 1)"]),
        ("digits", {"test_fraction": float("nan")}, ["test_fraction: nan"]),
        ("synthetic", {"alpha": -0.5}, ["alpha: -0.5"]),
        ("synthetic", {"beta": float("inf")}, ["beta: inf"]),
        ("synthetic", {"num_clients": 0}, ["num_clients: 0"]),
        ("synthetic", {"seed": -1}, ["seed: -1"]),
        ("synthetic", {"max_size": 1}, ["max_size: 1", "at least 2"]),
        ("synthetic", {"test_fraction": 1.0}, ["test_fraction: 1.0"]),
    ],
)
def test_mistakes_in_options_are_named(name, options, parts):
    with pytest.raises(InputError) as error:
        DATASETS[name](**options)
    assert all(part in message(error) for part in parts)


@pytest.mark.parametrize("module", ["arrays", *DATASETS])
def test_docstring_examples_run(module):
    with jax.numpy_dtype_promotion("strict"):
        result = doctest.testmod(importlib.import_module(f"fedjax_ecgr.data.datasets.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
