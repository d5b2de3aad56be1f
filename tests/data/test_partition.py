"""Divisions among clients: nothing is lost, the published rules hold, mistakes are named."""

import doctest
import importlib
import inspect
import zlib
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import datasets, partition
from fedjax_ecgr.data.describe import skew
from fedjax_ecgr.data.federated import (
    Examples,
    FederatedDataset,
    from_assignment,
    from_owners,
    label_counts,
    validate,
)
from fedjax_ecgr.data.partition import PARTITIONS
from fedjax_ecgr.data.partition.dirichlet import apportion

DRAWN = [name for name in PARTITIONS if name != "natural"]
SHIFTS = ["colour", "noise", "rotation"]


def make(labels, owners=None):
    labels = np.asarray(labels, np.int32)
    inputs = np.arange(labels.size, dtype=np.float32).reshape(-1, 1, 1, 1)
    owners = None if owners is None else np.asarray(owners, np.int32)
    return Examples(inputs, labels, np.zeros((), np.float32), np.ones((), np.float32), owners)


def balanced(num_examples=600, num_classes=10, num_clients=6):
    rows = np.arange(num_examples)
    return make(rows % num_classes, owners=rows % num_clients)


def held(clients):
    """The rows each client holds, read off the rectangle one client at a time."""
    return [list(rows[:size]) for rows, size in zip(clients.indices, clients.sizes, strict=True)]


def all_rows(clients):
    """The rows that any client holds, sorted, repetitions kept."""
    return sorted(row for rows in held(clients) for row in rows)


def message(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", PARTITIONS)
def test_every_example_is_owned_once(name):
    examples = balanced()
    clients = PARTITIONS[name](examples, num_clients=6, seed=3)
    assert all_rows(clients) == list(range(600))
    assert clients.num_clients == 6
    assert clients.sizes.sum() == 600
    if name in SHIFTS:
        assert clients.examples.labels is examples.labels
        assert clients.examples.inputs is not examples.inputs
    else:
        assert clients.examples is examples
    np.testing.assert_array_equal(examples.inputs, balanced().inputs)
    assert all(rows == sorted(rows) for rows in held(clients))
    assert clients.indices.shape == (6, clients.sizes.max())
    for i, size in enumerate(clients.sizes):
        np.testing.assert_array_equal(clients.indices[i, size:], 0)
    validate(clients, num_classes=10)


@pytest.mark.parametrize("name", PARTITIONS)
def test_result_is_numpy_int32_and_a_function_of_the_seed(name):
    draw = partial(PARTITIONS[name], balanced(), num_clients=6)
    clients = draw(seed=1)
    for array in (clients.indices, clients.sizes):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.int32
    assert held(draw(seed=1)) == held(clients)
    if name != "natural":
        assert held(draw(seed=2)) != held(clients)


@pytest.mark.parametrize("name", PARTITIONS)
def test_partitions_are_called_alike(name):
    parameters = inspect.signature(PARTITIONS[name]).parameters
    assert next(iter(parameters)) == "examples"
    assert parameters["seed"].default == 0
    rest = [parameter for key, parameter in parameters.items() if key != "examples"]
    assert "num_clients" in parameters
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in rest)
    assert getattr(partition, name) is PARTITIONS[name]


GOLDEN = {
    "colour": [1151582082, 48408128, 938752502, 1979465122],
    "dirichlet": [2965057130, 3328055753, 36764833],
    "iid": [1151582082, 48408128, 938752502],
    "log_normal": [3858536972, 3266601387, 3963640787],
    "mixture": [2205808741, 3117107333, 3454563992],
    "natural": [2462528295, 3380666189, 1065570207],
    "niid_classes": [2917200188, 570294766, 1392787237],
    "niid_dirichlet": [296648389, 4062327431, 222955442],
    "noise": [1151582082, 48408128, 938752502, 2618536039],
    "quantity": [1537535988, 572284174, 3980127897],
    "rotation": [1151582082, 48408128, 938752502, 3215234983],
    "shards": [3873340277, 1551101396, 3774119810],
}


def checksum(array):
    return zlib.crc32(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


@pytest.mark.parametrize("name", PARTITIONS)
def test_the_same_seed_is_the_same_partition_on_every_machine(name):
    """By checksums of what NumPy 2.0 to 2.4 made, on x86-64; they change where a rule does."""
    images = (np.arange(200 * 27) * 37 % 251).astype(np.uint8).reshape(200, 3, 3, 3)
    rows = np.arange(200)
    whole = make(rows % 7, owners=rows * rows % 5)._replace(inputs=images)
    clients = PARTITIONS[name](whole, num_clients=5, seed=42)
    train, test = partition.hold_out(clients, 0.25, seed=42)
    made = [clients.indices, train.indices, test.indices]
    if name in SHIFTS:
        made.append(clients.examples.inputs)
    assert [checksum(array) for array in made] == GOLDEN[name]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_labels_are_divided_without_loss(data):
    labels = data.draw(st.lists(st.sampled_from([0, 1, 5]), min_size=1, max_size=60))
    num_clients = data.draw(st.integers(1, len(labels)))
    alpha = data.draw(st.sampled_from([1e-300, 1e-3, 0.1, 1.0, 1e300, 1e308]))
    seed = data.draw(st.integers(0, 2**40))
    examples = make(labels)
    for name, options in (
        ("iid", {}),
        ("dirichlet", {"alpha": alpha}),
        ("quantity", {"alpha": alpha}),
        ("log_normal", {"sigma": alpha}),
        ("mixture", {"similarity": min(alpha, 1.0)}),
    ):
        clients = PARTITIONS[name](examples, num_clients=num_clients, seed=seed, **options)
        assert all_rows(clients) == list(range(len(labels)))
        assert clients.sizes.min() >= 1


@settings(max_examples=25, deadline=None)
@given(
    num_clients=st.integers(1, 12),
    num_classes=st.integers(1, 8),
    k=st.integers(1, 8),
    seed=st.integers(0, 100),
)
def test_shards_gives_exactly_k_classes(num_clients, num_classes, k, seed):
    examples = make(np.arange(num_classes * 30) % num_classes)
    if not num_classes <= k * num_clients or k > num_classes:
        with pytest.raises(InputError, match="classes_per_client"):
            partition.shards(examples, num_clients=num_clients, classes_per_client=k)
        return
    clients = partition.shards(examples, num_clients=num_clients, classes_per_client=k, seed=seed)
    counts = label_counts(clients, num_classes)
    assert (np.count_nonzero(counts, axis=1) == k).all()
    assert (counts.sum(axis=0) == 30).all()
    holders = np.count_nonzero(counts, axis=0)
    assert np.ptp(holders) <= 1
    for column in counts.T:
        assert np.ptp(column[column > 0]) <= 1


def test_shards_shuffles_within_a_class():
    examples = make(np.arange(40) % 2)
    halves = {
        tuple(held(partition.shards(examples, num_clients=2, seed=seed))[0]) for seed in range(8)
    }
    assert len(halves) == 8


def test_iid_sizes_differ_by_at_most_one():
    clients = partition.iid(balanced(605), num_clients=7)
    assert np.ptp(clients.sizes) <= 1
    assert np.abs(label_counts(clients, 10) - 605 / 70).max() < 12  # no label skew by position


def slow_dirichlet(labels, num_clients, alpha, min_size, seed):
    """The published rule, one example at a time; returns counts before, and sizes after filling."""
    classes = sorted(set(labels))
    shares = np.random.default_rng(seed).dirichlet([alpha] * num_clients, len(classes))
    counts = [[0] * len(classes) for _ in range(num_clients)]
    for c, label in enumerate(classes):
        total = sum(1 for other in labels if other == label)
        for i in range(num_clients):
            counts[i][c] = int(total * shares[c][i])
        lost = [total * shares[c][i] - counts[i][c] for i in range(num_clients)]
        while sum(row[c] for row in counts) < total:
            i = lost.index(max(lost))
            counts[i][c] += 1
            lost[i] = -1.0
    sizes = [sum(row) for row in counts]
    for i in range(num_clients):
        while sizes[i] < min_size:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[i] += 1
    return counts, sizes


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_dirichlet_is_the_published_rule(alpha, seed):
    labels = np.random.default_rng(7).integers(0, 5, 400)
    counts, sizes = slow_dirichlet(labels.tolist(), 8, alpha, 30, seed)
    draw = partial(partition.dirichlet, make(labels), num_clients=8, alpha=alpha, seed=seed)
    unfilled, filled = draw(min_size=0), draw(min_size=30)
    np.testing.assert_array_equal(label_counts(unfilled, 5), counts)
    np.testing.assert_array_equal(filled.sizes, sizes)
    for before, after, size in zip(held(unfilled), held(filled), sizes, strict=True):
        if len(before) <= size:
            assert set(before) <= set(after)  # who is filled up gives nothing away
        else:
            assert set(after) <= set(before)  # who gives takes nothing


def test_dirichlet_of_large_alpha_is_even_and_of_small_alpha_is_not():
    examples = balanced(6000, num_clients=10)
    even = label_counts(partition.dirichlet(examples, num_clients=10, alpha=1e7), 10)
    assert np.abs(even - 60).max() <= 1
    skewed = label_counts(partition.dirichlet(examples, num_clients=10, alpha=1e-3, min_size=0), 10)
    assert (skewed.max(axis=0) / skewed.sum(axis=0)).mean() > 0.95


def test_dirichlet_min_size_default_is_the_published_one_where_data_suffice():
    draw = partial(partition.dirichlet, num_clients=10, alpha=0.01)
    assert draw(balanced(20_000)).sizes.min() == 256
    assert draw(balanced(2_000)).sizes.min() == 50  # a quarter of an equal share
    assert draw(balanced(20)).sizes.min() == 1
    assert draw(balanced(2_000), min_size=200).sizes.tolist() == [200] * 10


@pytest.mark.parametrize("seed", range(5))
def test_dirichlet_on_digits_stays_heterogeneous(seed):
    train = datasets.digits().train
    clients = partition.dirichlet(train, num_clients=10, alpha=0.1, seed=seed)
    assert clients.sizes.min() >= 35
    assert clients.sizes.max() >= 4 * clients.sizes.min()
    counts = label_counts(clients, 10)
    distance = (
        np.abs(counts / counts.sum(axis=1, keepdims=True) - counts.sum(axis=0) / counts.sum()).sum(
            axis=1
        )
        / 2
    )
    assert distance.mean() > 0.5  # total variation from the whole; at most 0.9 with ten classes


def slow_niid_dirichlet(labels, num_clients, alpha, min_size, seed):
    """NIID-Bench's rule, one client at a time; returns counts, and how often it was drawn."""
    rng = np.random.default_rng(seed)
    classes, draws = sorted(set(labels)), 0
    while True:
        draws += 1
        counts = [[0] * len(classes) for _ in range(num_clients)]
        shares = rng.dirichlet([alpha] * num_clients, len(classes))
        for c, label in enumerate(classes):
            total = labels.count(label)
            rng.permutation(total)
            full = [sum(row) >= len(labels) / num_clients for row in counts]
            share = np.array([0.0 if full[i] else shares[c][i] for i in range(num_clients)])
            bound = [int(end * total) for end in np.cumsum(share / share.sum())[:-1]]
            for i, (low, high) in enumerate(zip([0, *bound], [*bound, total], strict=True)):
                counts[i][c] = high - low
        if min(sum(row) for row in counts) >= min_size:
            return counts, draws


@pytest.mark.parametrize(("alpha", "min_size"), [(0.1, 10), (0.5, 20), (100.0, 45)])
def test_niid_dirichlet_is_niid_bench_s_rule(alpha, min_size):
    labels = np.random.default_rng(7).integers(0, 5, 400)
    drawn = []
    for seed in range(5):
        counts, draws = slow_niid_dirichlet(labels.tolist(), 8, alpha, min_size, seed)
        clients = partition.niid_dirichlet(
            make(labels), num_clients=8, alpha=alpha, min_size=min_size, seed=seed
        )
        np.testing.assert_array_equal(label_counts(clients, 5), counts)
        assert clients.sizes.min() >= min_size
        drawn.append(draws)
    assert alpha > 1 or max(drawn) > 1  # drawing again happened


@pytest.mark.parametrize(("num_clients", "k"), [(10, 1), (10, 2), (23, 3), (4, 3), (6, 10)])
def test_niid_classes_is_niid_bench_s_rule(num_clients, k):
    labels = np.random.default_rng(7).integers(0, 10, 900)
    sizes = np.bincount(labels)
    uneven = 0
    for seed in range(20):
        clients = partition.niid_classes(
            make(labels), num_clients=num_clients, classes_per_client=k, seed=seed
        )
        counts = label_counts(clients, 10)
        assert (np.count_nonzero(counts, axis=1) == k).all()
        assert all(counts[i, i % 10] for i in range(num_clients))
        np.testing.assert_array_equal(counts.sum(axis=0), sizes)
        for column in counts.T:
            assert np.ptp(column[column > 0]) <= 1
        uneven += np.ptp(np.count_nonzero(counts, axis=0)) > 1  # never so by `shards`
    assert (uneven > 10) == (1 < k < 10 <= num_clients)


def test_the_other_classes_of_niid_classes_are_any_equally_often():
    dealt = np.zeros((10, 10))
    for seed in range(300):
        clients = partition.niid_classes(
            balanced(300), num_clients=10, classes_per_client=3, seed=seed
        )
        dealt += label_counts(clients, 10) > 0
    assert (dealt.diagonal() == 300).all()
    others = dealt[~np.eye(10, dtype=bool)]
    assert stats.chisquare(others).pvalue > 0.001
    assert others.mean() == pytest.approx(300 * 2 / 9)


def test_quantity_skews_sizes_and_not_labels():
    examples = balanced(6000, num_classes=2)
    skewed = partition.quantity(examples, num_clients=6, alpha=0.3, min_size=100, seed=1)
    assert skewed.sizes.min() >= 100
    assert skewed.sizes.max() > 2 * 1000
    share = label_counts(skewed, 2)[:, 0] / skewed.sizes
    assert (np.abs(share - 0.5) < 3 * 0.5 / np.sqrt(skewed.sizes) + 0.05).all()
    even = partition.quantity(examples, num_clients=6, alpha=1e8)
    assert np.ptp(even.sizes) < 10
    all_but_one = partition.quantity(examples, num_clients=6, alpha=1e-6)
    assert sorted(all_but_one.sizes.tolist()) == [1, 1, 1, 1, 1, 5995]


def test_log_normal_sizes_are_log_normal_and_labels_even():
    examples = balanced(1_000_000, num_classes=2)
    clients = partition.log_normal(examples, num_clients=500, sigma=0.8, min_size=0, seed=1)
    assert clients.sizes.mean() == 2000
    logarithms = np.log(clients.sizes)
    assert stats.kstest((logarithms - logarithms.mean()) / 0.8, "norm").pvalue > 0.05
    share = label_counts(clients, 2)[:, 0] / clients.sizes
    assert (np.abs(share - 0.5) < 5 * 0.5 / np.sqrt(clients.sizes)).all()


def test_log_normal_sizes_are_the_formula_above_the_smallest_size():
    draws = np.random.default_rng(7).standard_normal(6)
    weights = [np.exp(2.0 * draw) for draw in draws]
    expected = [50 + 300 * weight / sum(weights) for weight in weights]
    clients = partition.log_normal(balanced(), num_clients=6, sigma=2.0, min_size=50, seed=7)
    assert np.abs(clients.sizes - expected).max() < 1
    even = partition.log_normal(balanced(605), num_clients=7, sigma=0)
    assert np.ptp(even.sizes) <= 1


@settings(max_examples=25, deadline=None)
@given(
    num_examples=st.integers(1, 200),
    num_clients=st.integers(1, 12),
    similarity=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_mixture_sizes_differ_by_at_most_one(num_examples, num_clients, similarity, seed):
    num_clients = min(num_clients, num_examples)
    clients = partition.mixture(
        balanced(num_examples), num_clients=num_clients, similarity=similarity, seed=seed
    )
    assert all_rows(clients) == list(range(num_examples))
    assert np.ptp(clients.sizes) <= 1


def test_mixture_without_similarity_is_sorted():
    labels = np.random.default_rng(0).integers(0, 7, 500)
    clients = partition.mixture(make(labels), num_clients=9, similarity=0.0)
    pieces = sorted(sorted(labels[rows].tolist()) for rows in held(clients))
    assert [label for piece in pieces for label in piece] == sorted(labels.tolist())
    firsts = {
        min(labels[held(partition.mixture(make(labels), num_clients=9, similarity=0.0, seed=i))[0]])
        for i in range(5)
    }
    assert len(firsts) > 1  # client 0 does not always have the first piece


def slow_mixture(labels, num_clients, similarity, seed):
    """The published rule, one example at a time: cards dealt in turn, then sorted piles."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels)).tolist()
    alike = round(similarity * len(labels))
    hands = [[] for _ in range(num_clients)]
    for turn, row in enumerate(rows[:alike]):
        hands[turn % num_clients].append(row)
    rest = sorted(rows[alike:], key=lambda row: labels[row])
    for i in rng.permutation(num_clients):
        while len(hands[i]) < len(range(i, len(labels), num_clients)):
            hands[i].append(rest.pop(0))
    return [sorted(hand) for hand in hands]


@pytest.mark.parametrize("similarity", [0.0, 0.1, 0.5, 1.0])
def test_mixture_is_the_published_rule(similarity):
    labels = np.random.default_rng(7).integers(0, 5, 403)
    for seed in range(3):
        clients = partition.mixture(make(labels), num_clients=8, similarity=similarity, seed=seed)
        assert held(clients) == slow_mixture(labels.tolist(), 8, similarity, seed)
    # of ten classes over ten clients, 1 - s of a client's examples are of one
    whole = partition.mixture(balanced(20_000), num_clients=10, similarity=similarity)
    assert abs(skew(whole, 10).distance - 0.9 * (1 - similarity)) < 0.03


def test_natural_follows_the_owners():
    clients = partition.natural(make([0, 1, 0, 1], owners=[3, 0, 3, 1]))
    assert held(clients) == [[1], [3], [], [0, 2]]


def test_apportion_rounds_by_largest_remainder():
    assert apportion(7, np.array([0.5, 0.3, 0.2])).tolist() == [4, 2, 1]
    assert apportion(10, np.array([0.25, 0.25, 0.25, 0.25])).tolist() == [3, 3, 2, 2]
    assert apportion(0, np.array([0.5, 0.5])).tolist() == [0, 0]
    shares = np.random.default_rng(0).dirichlet(np.full(1000, 0.05), 50)
    assert all(apportion(12_345, row).sum() == 12_345 for row in shares)


def test_label_counts_equals_a_loop():
    examples = balanced(90, num_classes=4)
    clients = partition.quantity(examples, num_clients=7, min_size=0)
    slow = np.zeros((7, 4), int)
    for i, rows in enumerate(held(clients)):
        for row in rows:
            slow[i, examples.labels[row]] += 1
    np.testing.assert_array_equal(label_counts(clients, 4), slow)
    with pytest.raises(InputError, match=r"labels\[3\]: 3 is not allowed"):
        label_counts(clients, 3)


def test_own_assignment_keeps_order_overlap_and_empty_clients():
    clients = from_assignment(make([0, 1, 2]), [[2, 0], [], [0]])
    assert held(clients) == [[2, 0], [], [0]]
    validate(clients, num_classes=3)


def test_a_division_on_the_device_or_being_traced_can_be_validated():
    clients = partition.iid(balanced(), num_clients=3)
    validate(jax.tree.map(jax.numpy.asarray, clients), num_classes=10)

    @jax.jit
    def traced(clients):
        validate(clients, num_classes=10)
        return clients.sizes.sum()

    assert traced(clients) == 600


def test_a_hundred_thousand_clients():
    examples = make(np.random.default_rng(0).integers(0, 10, 400_000))
    clients = partition.dirichlet(examples, num_clients=100_000, alpha=0.1)
    validate(clients, num_classes=10)
    assert label_counts(clients, 10).sum() == 400_000


EMPTY = make([])
TEN = make(np.arange(10) % 5, owners=np.arange(10) % 2)
FLAT = TEN._replace(inputs=np.zeros((10, 2), np.float32))
OBLONG = TEN._replace(inputs=np.zeros((10, 3, 2, 1), np.uint8))


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"num_clients": 0}, ["num_clients: 0", "from 1 to 10"]),
        ({"num_clients": 11}, ["num_clients: 11", "from 1 to 10", "number of examples"]),
        ({"num_clients": 2.5}, ["num_clients: 2.5", "whole number"]),
        ({"num_clients": True}, ["num_clients: True"]),
        ({"num_clients": 2, "seed": -1}, ["seed: -1", "at least 0"]),
        ({"num_clients": 2, "seed": None}, ["seed: None"]),
        ({"num_clients": 1, "examples": EMPTY}, ["examples: 0", "at least 1"]),
    ],
)
def test_common_mistakes_are_named(name, options, parts):
    with pytest.raises(InputError) as error:
        PARTITIONS[name](**{"examples": TEN, **options})
    assert all(part in message(error) for part in parts)


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("dirichlet", {"alpha": 0.0}, ["alpha: 0.0", "(0, inf)"]),
        ("dirichlet", {"alpha": -1}, ["alpha: -1", "(0, inf)"]),
        ("dirichlet", {"alpha": float("nan")}, ["alpha: nan"]),
        ("dirichlet", {"alpha": float("inf")}, ["alpha: inf"]),
        ("dirichlet", {"alpha": "much"}, ["alpha: 'much'"]),
        ("dirichlet", {"alpha": [0.1, 0.2]}, ["alpha: [0.1, 0.2]", "one number"]),
        ("dirichlet", {"min_size": 256}, ["min_size: 256", "from 0 to 5", "10 examples"]),
        ("dirichlet", {"min_size": -1}, ["min_size: -1"]),
        ("niid_dirichlet", {"alpha": 0, "min_size": 0}, ["alpha: 0", "(0, inf)"]),
        ("niid_dirichlet", {"min_size": 6}, ["min_size: 6", "from 0 to 5"]),
        (
            "niid_dirichlet",
            {"examples": make([0] * 10), "min_size": 5, "alpha": 1e-6},  # one of two has nearly all
            ["min_size: 5", "alpha 1e-06", "1000 draws"],
        ),
        ("quantity", {"alpha": 0}, ["alpha: 0", "(0, inf)"]),
        ("quantity", {"alpha": float("nan")}, ["alpha: nan"]),
        ("quantity", {"min_size": 6}, ["min_size: 6", "from 0 to 5"]),
        ("log_normal", {"sigma": -0.1}, ["sigma: -0.1", "[0, inf)"]),
        ("log_normal", {"sigma": float("inf")}, ["sigma: inf"]),
        ("log_normal", {"sigma": "wide"}, ["sigma: 'wide'"]),
        ("log_normal", {"sigma": [0.1, 0.2]}, ["sigma: [0.1, 0.2]", "one number"]),
        ("log_normal", {"min_size": 6}, ["min_size: 6", "from 0 to 5", "10 examples"]),
        ("mixture", {"similarity": 1.5}, ["similarity: 1.5", "[0, 1]"]),
        ("mixture", {"similarity": float("nan")}, ["similarity: nan"]),
        ("mixture", {"similarity": [0.1, 0.2]}, ["similarity: [0.1, 0.2]", "one number"]),
        ("noise", {"sigma": -1}, ["sigma: -1", "[0, inf)"]),
        ("noise", {"sigma": [0.1, 0.2]}, ["sigma: [0.1, 0.2]", "one number"]),
        ("noise", {"alpha": 0.0}, ["alpha: 0.0", "(0, inf)"]),
        ("rotation", {"rotations": 3}, ["rotations: 3", "2 or 4"]),
        ("rotation", {"examples": FLAT}, ["inputs: shape (10, 2)", "height, width, channels"]),
        ("rotation", {"examples": OBLONG}, ["rotations: 4", "3 x 2", "2 where"]),
        ("colour", {"strength": 1.1}, ["strength: 1.1", "[0, 1]"]),
        ("colour", {"strength": [0.1, 0.2]}, ["strength: [0.1, 0.2]", "one number"]),
        ("colour", {"examples": FLAT}, ["inputs: shape (10, 2)", "height, width, channels"]),
        ("shards", {"classes_per_client": 6}, ["classes_per_client: 6", "from 3 to 5"]),
        ("shards", {"classes_per_client": 2}, ["classes_per_client: 2", "from 3 to 5"]),
        ("shards", {"classes_per_client": 0}, ["classes_per_client: 0"]),
        ("niid_classes", {"classes_per_client": 6}, ["classes_per_client: 6", "from 3 to 5"]),
        ("niid_classes", {"classes_per_client": 2}, ["classes_per_client: 2", "from 3 to 5"]),
        (
            "niid_classes",
            {"examples": make(np.arange(20)), "num_clients": 10},
            ["classes_per_client: 2", "20 classes over 10 clients", "1000 deals"],
        ),
        (
            "shards",
            {"num_clients": 6, "classes_per_client": 5},
            ["classes_per_client: 5", "class 0: 2 examples", "6 holders"],
        ),
        ("natural", {"num_clients": 3}, ["num_clients: 3", "must be 2"]),
        ("natural", {"examples": TEN._replace(owners=None)}, ["owners: None"]),
        (
            "natural",
            {"examples": TEN._replace(owners=np.arange(10) - 1)},
            ["owners[0]: -1", "at least 0"],
        ),
        (
            "natural",
            {"examples": TEN._replace(owners=np.arange(9))},
            ["owners: shape (9,)", "(10,)"],
        ),
        ("natural", {"examples": TEN._replace(owners=np.ones(10))}, ["owners: float64"]),
        ("natural", {"examples": make([], owners=[]), "num_clients": None}, ["num_clients: 0"]),
    ],
)
def test_mistakes_in_own_options_are_named(name, options, parts):
    with pytest.raises(InputError) as error:
        PARTITIONS[name](**{"examples": TEN, "num_clients": 2, **options})
    assert all(part in message(error) for part in parts)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ([], ["num_clients: 0"]),
        ([[0], [10]], ["assignment[1][0]: 10", "0 to 9"]),
        ([[2**32]], ["assignment[0][0]: 4294967296"]),
        ([[0, -1]], ["assignment[0][1]: -1"]),
        ([[0], [0.5]], ["assignment[1]", "float64", "whole numbers"]),
        ([[True, False]], ["assignment[0]", "bool"]),
        ([[[0, 1]]], ["assignment[0]", "(1, 2)"]),
    ],
)
def test_mistakes_in_an_own_assignment_are_named(assignment, parts):
    with pytest.raises(InputError) as error:
        from_assignment(TEN, assignment)
    assert all(part in message(error) for part in parts)


def test_mistakes_in_owners_are_named():
    with pytest.raises(InputError, match=r"owners\[9\]: 9 is not allowed, it must be from 0 to 8"):
        from_owners(TEN, np.arange(10), num_clients=9)


GOOD = FederatedDataset(TEN, np.array([[0, 1], [2, 0]], np.int32), np.array([2, 1], np.int32))


def with_examples(**fields):
    return GOOD._replace(examples=TEN._replace(**fields))


@pytest.mark.parametrize(
    ("clients", "parts"),
    [
        (GOOD._replace(indices=np.array([[0, 10], [2, 0]])), ["indices[0, 1]: 10", "0 to 9"]),
        (GOOD._replace(indices=np.array([[0, 1], [-2, 0]])), ["indices[1, 0]: -2"]),
        (GOOD._replace(indices=np.zeros((2, 2))), ["indices: float64"]),
        (GOOD._replace(indices=np.zeros(2, int)), ["indices: shape (2,)"]),
        (GOOD._replace(indices=np.zeros((0, 2), int)), ["indices: shape (0, 2)"]),
        (GOOD._replace(sizes=np.array([2, 3])), ["sizes[1]: 3", "0 to 2"]),
        (GOOD._replace(sizes=np.array([-1, 1])), ["sizes[0]: -1"]),
        (GOOD._replace(sizes=np.array([2, 1, 1])), ["sizes: shape (3,)", "(2,)"]),
        (GOOD._replace(sizes=np.array([0, 0])), ["sizes: all 0"]),
        (with_examples(labels=np.arange(10)), ["labels[5]: 5", "0 to 4"]),
        (with_examples(labels=np.arange(10) - 1), ["labels[0]: -1"]),
        (with_examples(labels=np.arange(9)), ["labels: shape (9,)"]),
        (with_examples(labels=np.ones(10)), ["labels: float64", "whole numbers"]),
        (
            with_examples(inputs=np.where(np.arange(10) == 7, np.nan, 0.0)[:, None]),
            ["inputs[7, 0]: nan"],
        ),
        (with_examples(inputs=np.ones((10, 1), np.int64)), ["inputs: int64", "uint8, floating"]),
        (
            with_examples(inputs=np.ones((10, 1), np.int32), std=np.array(2.0)),
            ["inputs: int32", "0 and 1"],
        ),
        (with_examples(inputs=-np.ones((10, 1), np.int32)), ["inputs[0, 0]: -1", "a token"]),
        (with_examples(labels=np.ones((10, 2), int)), ["labels: shape (10, 2)", "(10, 1, 1, 1)"]),
        (with_examples(inputs=np.ones(10)), ["inputs: shape (10,)"]),
        (with_examples(inputs=np.ones((10, 0))), ["inputs: shape (10, 0)"]),
        (with_examples(mean=np.array(np.inf)), ["mean: inf", "finite"]),
        (with_examples(mean=np.zeros(2)), ["mean: shape (2,)", "(1,)"]),
        (with_examples(std=np.array([0.0])), ["std[0]: 0.0", "above 0"]),
        (with_examples(std=np.array(np.nan)), ["std: nan"]),
        (with_examples(owners=np.full(10, -3)), ["owners[0]: -3"]),
    ],
)
def test_validate_names_the_first_wrong_entry(clients, parts):
    with pytest.raises(InputError) as error:
        validate(clients, num_classes=5)
    assert all(part in message(error) for part in parts)


def test_validate_accepts_bfloat16_and_any_label_without_num_classes():
    validate(with_examples(inputs=jax.numpy.ones((10, 1), "bfloat16"), labels=np.arange(10)))


@pytest.mark.parametrize("module", ["federated", *(f"partition.{name}" for name in PARTITIONS)])
def test_docstring_examples_run(module):
    with jax.numpy_dtype_promotion("strict"):
        result = doctest.testmod(importlib.import_module(f"fedjax_ecgr.data.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
