"""Feature shifts: what becomes of inputs; and each client's own test examples, shifted or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import fedjax_ecgr as fx
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.federated import from_assignment, validate
from fedjax_ecgr.runs.config import Choice, RunConfig, build, data_of

SHIFTS = ("colour", "noise", "rotation")


def make(inputs):
    labels = np.arange(len(inputs), dtype=np.int32) % 10
    return fx.Examples(inputs, labels, np.float32(0), np.float32(1))


def rows_of(clients):
    return [row[:size] for row, size in zip(clients.indices, clients.sizes, strict=True)]


def random_images(number=60, shape=(5, 5, 3)):
    return np.random.default_rng(5).integers(0, 256, (number, *shape), np.uint8)


@pytest.mark.parametrize("name", SHIFTS)
def test_the_division_is_iid_or_dirichlet_and_labels_stay(name):
    examples, divide = make(random_images(200)), getattr(fx.partition, name)
    even = divide(examples, num_clients=4, seed=3)
    skewed = divide(examples, num_clients=4, alpha=0.2, seed=3)
    for clients, expected in (
        (even, fx.partition.iid(examples, num_clients=4, seed=3)),
        (skewed, fx.partition.dirichlet(examples, num_clients=4, alpha=0.2, seed=3)),
    ):
        np.testing.assert_array_equal(clients.indices, expected.indices)
        np.testing.assert_array_equal(clients.sizes, expected.sizes)
        assert clients.examples[1:] == examples[1:]
        assert clients.examples.inputs.dtype == np.uint8
        assert clients.examples.inputs.shape == examples.inputs.shape
        assert (clients.examples.inputs != examples.inputs).any()
    np.testing.assert_array_equal(examples.inputs, random_images(200))


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, jnp.bfloat16])
def test_inputs_keep_their_type(name, dtype):
    clients = getattr(fx.partition, name)(make(random_images().astype(dtype)), num_clients=4)
    assert clients.examples.inputs.dtype == dtype
    validate(clients, num_classes=10)


def test_noise_of_floating_inputs_has_the_formula_s_variance():
    examples = make(np.full((8000, 4, 4, 1), 3.0, np.float32))
    clients = fx.partition.noise(examples, num_clients=8, sigma=0.4, seed=2)
    for i, rows in enumerate(rows_of(clients), start=1):
        added = clients.examples.inputs[rows].astype(np.float64).ravel() - 3.0
        variance = 0.4 * i / 8
        assert abs(added.mean()) < 5 * np.sqrt(variance / added.size)
        assert abs(added.var() / variance - 1) < 5 * np.sqrt(2 / added.size)
        assert stats.kstest(added / np.sqrt(variance), "norm").pvalue > 0.01


def test_noise_of_uint8_inputs_is_in_units_of_the_largest_rounded_and_clipped():
    inputs = np.full((4000, 4, 4, 1), 128, np.uint8)
    inputs[:2000] = 0
    inputs[0, 0, 0, 0] = 255
    clients = fx.partition.noise(make(inputs), num_clients=4, sigma=0.004, seed=1)
    for i, rows in enumerate(rows_of(clients), start=1):
        middle = clients.examples.inputs[rows[rows >= 2000]].astype(np.float64)
        variance = 255**2 * 0.004 * i / 4 + 1 / 12  # rounding adds its own
        assert abs(middle.mean() - 128) < 5 * np.sqrt(variance / middle.size)
        assert abs(middle.var() / variance - 1) < 5 * np.sqrt(2 / middle.size)
        dark = clients.examples.inputs[rows[(rows > 0) & (rows < 2000)]]
        black = stats.norm.cdf(0.5 / np.sqrt(variance - 1 / 12))
        assert abs((dark == 0).mean() - black) < 5 * 0.5 / np.sqrt(dark.size)


def test_noise_and_colour_of_digits_stay_in_their_range():
    train = fx.datasets.digits().train
    for clients in (
        fx.partition.noise(train, num_clients=5, sigma=1.0),
        fx.partition.colour(train, num_clients=5, strength=1.0),
    ):
        assert clients.examples.inputs.max() == 16


def test_a_client_s_noise_does_not_depend_on_others():
    few = fx.partition.noise(make(np.zeros((8, 3))), num_clients=2, sigma=0.2, seed=4)
    many = fx.partition.noise(make(np.zeros((16, 3))), num_clients=4, sigma=0.4, seed=4)
    for client in range(2):
        np.testing.assert_array_equal(
            few.examples.inputs[rows_of(few)[client]], many.examples.inputs[rows_of(many)[client]]
        )
    one, two = (many.examples.inputs[rows_of(many)[client]] for client in (0, 1))
    assert not np.allclose(one * np.sqrt(2), two)


def turned(image, turns):
    """A quarter turn anticlockwise after another: the last column becomes the first row."""
    for _ in range(turns):
        height, width = len(image), len(image[0])
        image = [[image[y][width - 1 - x] for y in range(height)] for x in range(width)]
    return np.array(image)


@pytest.mark.parametrize("rotations", [2, 4])
def test_rotation_only_moves_pixels(rotations):
    examples = make(random_images())
    clients = fx.partition.rotation(examples, num_clients=7, rotations=rotations)
    for client, rows in enumerate(rows_of(clients)):
        turns = client % rotations * {2: 2, 4: 1}[rotations]
        for row in rows:
            expected = turned(examples.inputs[row].tolist(), turns)
            np.testing.assert_array_equal(clients.examples.inputs[row], expected)


def test_oblong_images_are_turned_by_180_degrees():
    examples = make(random_images(shape=(3, 4, 1)))
    clients = fx.partition.rotation(examples, num_clients=2, rotations=2)
    for row in rows_of(clients)[1]:
        np.testing.assert_array_equal(
            clients.examples.inputs[row].ravel(), examples.inputs[row].ravel()[::-1]
        )


def test_colour_multiplies_channels_by_a_client_s_own_gains():
    inputs = np.random.default_rng(0).uniform(1, 2, (600, 2, 2, 3))
    clients = fx.partition.colour(make(inputs), num_clients=300, strength=0.4, seed=9)
    gains = []
    for rows in rows_of(clients):
        ratios = (clients.examples.inputs[rows] / inputs[rows]).reshape(-1, 3)
        np.testing.assert_allclose(ratios, np.broadcast_to(ratios[0], ratios.shape), rtol=1e-12)
        gains.append(ratios[0])
    assert stats.kstest((np.ravel(gains) - 0.6) / 0.8, "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(np.transpose(gains)) - np.eye(3)).max() < 5 / np.sqrt(300)


def test_colour_of_uint8_is_rounded_and_clipped():
    inputs = np.full((100, 2, 2, 2), 200, np.uint8)
    inputs[..., 1] = 100
    inputs[0, 0, 0, 0] = 255
    floating = fx.partition.colour(make(inputs.astype(np.float64)), num_clients=9, seed=1)
    clients = fx.partition.colour(make(inputs), num_clients=9, seed=1)
    assert floating.examples.inputs.max() > 255
    expected = np.minimum(np.round(floating.examples.inputs), 255)
    np.testing.assert_array_equal(clients.examples.inputs, expected)


@pytest.mark.parametrize(
    ("name", "options"), [("noise", {"sigma": 0}), ("colour", {"strength": 0})]
)
def test_no_shift_leaves_inputs_as_they_are(name, options):
    clients = getattr(fx.partition, name)(make(random_images()), num_clients=4, **options)
    np.testing.assert_array_equal(clients.examples.inputs, random_images())


# each client's own test examples


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.99])
def test_hold_out_divides_each_client_s_examples(share):
    sizes = [1, 2, 3, 10, 101, 0]
    ends = np.cumsum(sizes)
    assignment = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    whole = from_assignment(make(np.zeros((117, 1))), assignment)
    train, test = fx.partition.hold_out(whole, share, seed=1)
    for size, rows, kept, apart in zip(
        sizes, assignment, rows_of(train), rows_of(test), strict=True
    ):
        assert sorted([*kept, *apart]) == list(rows)
        expected = 0 if size < 2 else min(max(round(share * size), 1), size - 1)
        assert len(apart) == expected
    other = fx.partition.hold_out(whole, share, seed=2)[1]
    assert rows_of(other)[4].tolist() != rows_of(test)[4].tolist()


def right(examples, rows, params):
    """Whether a linear model is right, example by example."""
    found = []
    for row in rows:
        inputs = np.asarray(examples.inputs[row], float)
        inputs = ((inputs - examples.mean) / examples.std).ravel()
        outputs = inputs @ np.asarray(params["fc1"]["kernel"]) + np.asarray(params["fc1"]["bias"])
        found.append(int(np.argmax(outputs)) == examples.labels[row])
    return found


def test_client_accuracy_of_a_hand_made_case():
    """Class 1 above 0: right for client 0, for three in four of client 1's; client 2 has none."""
    inputs = np.array([1, -1, 2, -2, 1, 1, -1, -1, 5], np.float32)[:, np.newaxis]
    labels = np.array([1, 0, 1, 0, 1, 0, 0, 0, 0], np.int32)
    examples = fx.Examples(inputs, labels, np.float32(0), np.float32(1))
    built = fx.simulation(
        fx.fedavg(),
        fx.models.logistic_regression(fx.Spec((1,), 2)),
        from_assignment(examples, [[0], [4], [8]]),
        client_test=from_assignment(examples, [[0, 1], [4, 5, 6, 7], []]),
    )
    state = built.init(jax.random.key(0))
    params = {"fc1": {"kernel": np.float32([[0, 1]]), "bias": np.float32([0, 0])}}
    evaluation = built.evaluate(state._replace(params=params))
    assert float(evaluation.clients.mean) == (1.0 + 0.75) / 2
    assert float(evaluation.clients.worst) == 0.75
    np.testing.assert_allclose(evaluation.accuracy, 5 / 6, rtol=1e-6)


@pytest.mark.parametrize("name", ["dirichlet", "noise", "rotation"])
def test_a_run_measures_client_accuracy_on_each_client_s_own_examples(name):
    config = RunConfig(
        partition=Choice(name), model=Choice("logistic_regression"), num_clients=4,
        client_test_fraction=0.3, seed=3,
    )  # fmt: skip
    dataset = data_of(config)
    whole = getattr(fx.partition, name)(dataset.train, num_clients=4, seed=3)
    _, test = fx.partition.hold_out(whole, 0.3, seed=3)
    built = build(config)
    state = built.init(jax.random.key(0))
    evaluation = built.evaluate(state)
    judged = [right(whole.examples, rows, state.params) for rows in rows_of(test)]
    means = [np.mean(hits) for hits in judged]
    np.testing.assert_allclose(evaluation.clients.mean, np.mean(means), rtol=1e-6)
    np.testing.assert_allclose(evaluation.clients.std, np.std(means), rtol=1e-4)
    if name in SHIFTS:  # all test examples are shifted: no client's are like the source's
        expected = np.mean(np.concatenate(judged))
    else:
        expected = np.mean(right(dataset.test, range(len(dataset.test.labels)), state.params))
    np.testing.assert_allclose(evaluation.accuracy, expected, rtol=1e-6)


@pytest.mark.parametrize("name", SHIFTS)
def test_a_run_on_shifted_inputs_needs_test_examples_of_each_client(name):
    with pytest.raises(InputError, match=rf"client_test_fraction: None .* {name}, which shifts"):
        build(RunConfig(partition=Choice(name)))


@pytest.mark.parametrize("name", SHIFTS)
def test_asked_for_none_of_the_clients_a_run_is_judged_by_inputs_that_are_not_shifted(name):
    config = RunConfig(
        partition=Choice(name), model=Choice("logistic_regression"), client_test_fraction=0
    )
    built = build(config)
    state = built.init(jax.random.key(0))
    test = data_of(config).test
    expected = np.mean(right(test, range(len(test.labels)), state.params))
    evaluation = built.evaluate(state)
    np.testing.assert_allclose(evaluation.accuracy, expected, rtol=1e-6)
