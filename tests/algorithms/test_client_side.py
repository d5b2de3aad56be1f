"""Client-side algorithms where what they do is known in closed form.

On quadratics client i holds n_i copies of a point c_i with the loss ½ a_i ‖w − c_i‖² of each, and
takes its steps on all of them. Curvatures a_i that differ are what makes FedAvg miss the optimum.
"""

import itertools
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.models.base import Model

RATE = 0.2
CENTRES = np.array([[3.0, 0.0], [-1.0, 2.0], [0.0, -1.0], [1.0, 1.0]])
CURVES = np.array([0.5, 2.0, 1.0, 1.5])
SIZES = (4, 2, 2, 1)


def quadratics(name, *, curves=CURVES, sizes=(2,) * 4, cohort_size=None, epochs=1, **options):
    """A simulation of the first clients, as many as there are sizes."""
    count = len(sizes)
    owners = np.repeat(np.arange(count), sizes)
    inputs = np.column_stack([np.sqrt(curves[:count]), CENTRES[:count]])[owners]
    labels = np.zeros(len(owners), np.int32)

    def apply(params, stats, inputs, *, mask, train, key):
        return inputs[:, :1] * (params["w"][None] - inputs[:, 1:]), stats

    return fx.simulation(
        ALGORITHMS[name](**{"learning_rate": RATE, "momentum": 0.0, **options}),
        Model("quadratics", lambda key: ({"w": jnp.zeros(2, float)}, {}), apply),
        from_owners(fx.Examples(inputs, labels, np.array(0.0), np.array(1.0)), owners, count),
        cohort_size=cohort_size,
        batch_size=max(sizes),
        local_epochs=epochs,
        loss=lambda outputs, labels: jnp.square(outputs).sum(axis=1) / 2,
        placement="scan",
    )


def end(built, rounds, length=None, **numbers):
    """The parameters after some rounds, by a program for as many, with other numbers of its own."""
    key, given = jax.random.key(0), built.hyperparameters
    given = {**given, "algorithm": {**given["algorithm"], **numbers}}
    state, _ = built.block(built.init(key), key, given, rounds, length or rounds)
    return jax.device_get(state.params)


def path(built, rounds):
    """The parameters after each round, [rounds + 1, 2], and the infos."""
    one, key = jax.jit(built.round), jax.random.key(0)
    state, infos = built.init(key), []
    found = [np.asarray(state.params["w"])]
    for _ in range(rounds):
        state, info = one(state, key, built.hyperparameters)
        found.append(np.asarray(state.params["w"]))
        infos.append(info)
    return np.array(found), infos


def optimum(sizes):
    """Where Σ n_i a_i (w − c_i) = 0."""
    weights = np.array(sizes) * CURVES
    return weights @ CENTRES / weights.sum()


def mean_gradient(w, sizes):
    return CURVES * np.array(sizes) / sum(sizes) @ (w - CENTRES)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("feddyn", {"alpha": 1.0}),
        ("feddyn", {"alpha": 1.0, "cohort_size": 2}),
        ("feddc", {"sizes": SIZES}),
        ("feddc", {"sizes": SIZES, "momentum": 0.9, "learning_rate": RATE / 10}),
        ("feddc", {"cohort_size": 2}),
        ("mime", {"sizes": SIZES}),
        ("mime", {"sizes": SIZES, "momentum": 0.9}),
    ],
)
def test_the_fixed_point_is_the_optimum(name, options, x64):
    w = end(quadratics(name, epochs=4, **options), 400)["w"]
    np.testing.assert_allclose(w, optimum(options.get("sizes", (2,) * 4)), atol=1e-8)


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "mimelite", "fedlesam", "fedsam"])
def test_which_the_others_miss(name, x64):
    w = end(quadratics(name, epochs=4), 400)["w"]
    assert np.linalg.norm(w - optimum((2,) * 4)) > 0.05


@cache
def fedavgs_end():
    return end(quadratics("fedavg", epochs=3, sizes=SIZES, cohort_size=3), 4)["w"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedsam", {"rho": 0.0}),
        ("fedlesam", {"rho": 0.0}),
        ("mimelite", {"momentum": 0.0}),
        ("fedbn", {}),
    ],
)
def test_without_its_idea_it_is_fedavg(name, options, x64):
    w = end(quadratics(name, epochs=3, sizes=SIZES, cohort_size=3, **options), 4)["w"]
    np.testing.assert_allclose(w, fedavgs_end(), rtol=1e-12)


def test_fedsam_goes_to_where_the_gradient_points(x64):
    found, _ = path(quadratics("fedsam", sizes=(3,), rho=0.3), 3)
    for w, after in itertools.pairwise(found):
        far = w + 0.3 * (w - CENTRES[0]) / np.linalg.norm(w - CENTRES[0])
        np.testing.assert_allclose(after, w - RATE * CURVES[0] * (far - CENTRES[0]), atol=1e-12)


def test_fedlesam_goes_back_to_what_each_client_last_received(x64):
    found, infos = path(quadratics("fedlesam", sizes=SIZES, cohort_size=1, rho=0.3), 12)
    last, again = {}, 0
    for w, after, info in zip(found[:-1], found[1:], infos, strict=True):
        client = int(info.cohort[0])
        far = w
        if client in last:
            back = last[client] - w
            far, again = w + 0.3 * back / np.linalg.norm(back), again + 1
        step = RATE * CURVES[client] * (far - CENTRES[client])
        np.testing.assert_allclose(after, w - step, atol=1e-12)
        last[client] = w
    assert 0 < again < 12


@pytest.mark.parametrize("name", ["mime", "mimelite"])
def test_mime_of_one_step_is_the_servers_momentum(name, x64):
    beta, decay = 0.6, 0.1
    options = {"sizes": SIZES, "momentum": beta, "weight_decay": decay}
    found, _ = path(quadratics(name, **options), 5)
    momentum = np.zeros(2)
    for w, after in itertools.pairwise(found):
        momentum = (1 - beta) * (mean_gradient(w, SIZES) + decay * w) + beta * momentum
        np.testing.assert_allclose(after, w - RATE * momentum, atol=1e-12)


def test_clients_of_mime_do_not_drift_apart(x64):
    """Of one curvature, however far apart: each takes every step on the mean loss."""
    options = {"sizes": SIZES, "epochs": 3, "momentum": 0.6, "curves": np.ones(4)}
    found, infos = path(quadratics("mime", **options), 4)
    momentum, mean = np.zeros(2), np.array(SIZES) @ CENTRES / sum(SIZES)
    for w, after, info in zip(found[:-1], found[1:], infos, strict=True):
        local = w
        for _ in range(3):
            local = local - RATE * (0.4 * (local - mean) + 0.6 * momentum)
        momentum = 0.4 * (w - mean) + 0.6 * momentum
        np.testing.assert_allclose(after, local, atol=1e-12)
        assert float(info.update_variance) < 1e-12
    _, infos = path(quadratics("mimelite", **options), 1)
    assert float(infos[0].update_variance) > 1e-2


@pytest.mark.parametrize("name", ["feddyn", "feddc", "mime", "mimelite", "fedlesam"])
def test_a_round_without_anybody_is_harmless(name, x64):
    """Two of four clients have no examples: rounds in which one of them is alone."""
    built = quadratics(name, sizes=(4, 4, 0, 0), cohort_size=1, momentum=0.5, epochs=2)
    one, key, alone = jax.jit(built.round), jax.random.key(0), 0
    state = built.init(key)
    for _ in range(8):
        before = jax.device_get((state.params, state.server, state.clients))
        state, info = one(state, key, built.hyperparameters)
        after = jax.device_get((state.params, state.server, state.clients))
        if int(info.cohort[0]) > 1:
            alone += 1
            chex.assert_trees_all_equal(after, before)
    assert 0 < alone < 8
    assert np.linalg.norm(state.params["w"]) > 0.1


COUNTS = np.array([6, 3, 0])


def classifier(name, hidden=(), counts=(COUNTS, COUNTS[::-1]), epochs=2, **options):
    """A simulation of clients with so many examples of each label, all a batch each.

    Without hidden layers it begins at zero.
    """
    rng, sizes = np.random.default_rng(0), [int(sum(c)) for c in counts]
    labels = np.concatenate([np.repeat(np.arange(3), c) for c in counts]).astype(np.int32)
    inputs = rng.normal(size=(len(labels), 2))
    net = fx.models.mlp(fx.Spec((2,), 3), hidden=hidden)

    def init(key):
        params, stats = net.init(key)
        return jax.tree.map(lambda x: x.astype(float) * (1.0 if hidden else 0.0), params), stats

    return fx.simulation(
        ALGORITHMS[name](**{"learning_rate": RATE, "momentum": 0.0, **options}),
        net._replace(init=init),
        from_owners(
            fx.Examples(inputs, labels, np.array(0.0), np.array(1.0)),
            np.repeat(np.arange(len(counts)), sizes),
            len(counts),
        ),
        batch_size=max(sizes),
        local_epochs=epochs,
        placement="scan",
    )


@pytest.mark.parametrize(
    ("name", "options", "counts"),
    [
        ("fedrs", {"alpha": 1.0}, (COUNTS, COUNTS[::-1])),
        ("fedlc", {"tau": 0.0}, (COUNTS + 1, COUNTS[::-1] + 1)),
    ],
)
def test_without_restriction_or_margins_the_loss_is_the_runs(name, options, counts, x64):
    found, plain = (
        end(classifier(method, counts=counts, **given), 2)
        for method, given in ((name, options), ("fedavg", {}))
    )
    chex.assert_trees_all_close(found, plain, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "stays"),
    [("fedavg", {}, False), ("fedlc", {}, True), ("fedrs", {"alpha": 0.0}, True)],
)
def test_absent_labels_are_left_alone(name, options, stays, x64):
    w = end(classifier(name, counts=(COUNTS,), **options), 2)
    for leaf in jax.tree.leaves(w):
        assert (np.abs(leaf[..., 2]).max() == 0) == stays
        assert np.abs(leaf[..., :2]).max() > 1e-3


def test_the_margins_of_fedlc_are_larger_for_rare_labels(x64):
    """A step from zero: of the biases, to each label's share from what softmax makes of margins."""
    counts = np.array([16, 1, 3])
    w = end(classifier("fedlc", counts=(counts,), epochs=1, tau=2.0), 1)
    lowered = np.exp(-2.0 * counts**-0.25)
    wanted = RATE * (counts / counts.sum() - lowered / lowered.sum())
    np.testing.assert_allclose(w["fc1"]["bias"], wanted, atol=1e-12)


def test_moon_begins_as_fedavg(x64):
    """In a client's first round its own last model is the global one: no pull, no push."""
    moon, fedavg = (classifier(name, (4,)) for name in ("moon", "fedavg"))
    first = [end(moon, rounds, 3, mu=5.0) for rounds in (1, 3)]
    second = [end(fedavg, rounds, 3) for rounds in (1, 3)]
    chex.assert_trees_all_close(first[0], second[0], rtol=1e-7, atol=1e-12)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), first[1], second[1])
    assert max(jax.tree.leaves(apart)) > 1e-3
    none = end(moon, 3, mu=0.0)
    chex.assert_trees_all_close(none, second[1], rtol=1e-7, atol=1e-12)


def test_moon_takes_models_that_have_features():
    with pytest.raises(fx.InputError, match="moon: model: quadratics, which has no features") as e:
        quadratics("moon")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("feddyn", {"alpha": 0.0}, "alpha: 0.0 is not allowed, it must be in (0, inf)"),
        ("feddc", {"alpha": -1.0}, "alpha: -1.0 is not allowed"),
        ("fedsam", {"rho": -1.0}, "rho: -1.0 is not allowed"),
        ("fedlesam", {"rho": -1.0}, "rho: -1.0 is not allowed"),
        ("fedlc", {"tau": -1.0}, "tau: -1.0 is not allowed"),
        ("fedrs", {"alpha": 1.5}, "alpha: 1.5 is not allowed, it must be in [0, 1]"),
        ("moon", {"mu": -1.0}, "mu: -1.0 is not allowed"),
        ("moon", {"temperature": 0.0}, "temperature: 0.0 is not allowed, it must be in (0, inf)"),
        ("mime", {"momentum": 1.0}, "momentum: 1.0 is not allowed, it must be in [0, 1)"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(name, options, said):
    with pytest.raises(fx.InputError) as error:
        ALGORITHMS[name](**options)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
