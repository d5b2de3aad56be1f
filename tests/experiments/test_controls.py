"""Each control keeps what it says of ECGR's update, by NumPy, and gives up the rest."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from experiments import controls
from fedjax_ecgr.runs import Choice, RunConfig, build

STEPS, ROOM = 7, 9
K = 3  # floor(7 · 0.5)


@pytest.fixture(scope="module")
def deltas():
    rng = np.random.default_rng(0)
    return rng.standard_normal((STEPS, 12)) + 0.3


def as_tree(flat):
    return {"a": flat[..., :8].reshape(*flat.shape[:-1], 2, 4), "b": flat[..., 8:]}


@cache
def program(make):
    """What feeds the steps one by one, as the engine does, to the regulator that is made."""
    regulator = make()

    def step(state, x):
        return regulator.update(x[0], state, x[1]), None

    @jax.jit
    def all_of(steps, active, total):
        state = regulator.init(jax.tree.map(jnp.zeros_like, total), ROOM)
        state, _ = jax.lax.scan(step, state, (steps, active))
        return regulator.finalize(state, total)[0]

    return all_of


def updated(make, deltas):
    """Returns what a regulator uploads of these steps, two masked ones behind them."""
    steps = np.concatenate([deltas, np.full((ROOM - STEPS, 12), np.nan)])
    given = as_tree(steps), np.arange(ROOM) < STEPS, as_tree(deltas.sum(axis=0))
    update = program(make)(*given)
    return np.concatenate([np.ravel(update["a"]), update["b"]])


@pytest.fixture(scope="module")
def ecgr(deltas):
    """ECGR's blend u, by the plain greedy loop, and Σ d."""
    chosen, total = [], np.zeros(12)
    for _ in range(K):
        left = [i for i in range(STEPS) if i not in chosen]
        best = min(left, key=lambda i: np.linalg.norm(total + deltas[i]))
        chosen.append(best)
        total += deltas[best]
    weights = np.where(np.isin(np.arange(STEPS), chosen), 1.0, 0.2)
    return weights @ deltas, deltas.sum(axis=0)


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


@pytest.mark.usefixtures("x64")
def test_damped_is_the_blend_and_shortened_has_its_length(deltas, ecgr):
    blend, total = ecgr
    np.testing.assert_allclose(updated(controls.damped, deltas), blend, rtol=1e-9)
    expected = total * np.linalg.norm(blend) / np.linalg.norm(total)
    np.testing.assert_allclose(updated(controls.shortened, deltas), expected, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_turned_keeps_length_and_angle_and_no_more(deltas, ecgr):
    blend, total = ecgr
    found = updated(controls.turned, deltas)
    np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(total), rtol=1e-9)
    np.testing.assert_allclose(cosine(found, total), cosine(blend, total), rtol=1e-9)
    assert cosine(found, blend) < 0.95
    other = updated(controls.turned, deltas * 1.001)
    assert cosine(found, other) < 0.999  # another direction for another update


@pytest.mark.usefixtures("x64")
def test_random_steps_are_as_many_and_others_for_other_updates(deltas):
    seen = set()
    for number in range(20):
        given = deltas * (1 + number / 100)
        found = updated(controls.random_steps, given)
        np.testing.assert_allclose(
            np.linalg.norm(found), np.linalg.norm(given.sum(axis=0)), rtol=1e-9
        )
        weights = np.linalg.lstsq(given.T, found, rcond=None)[0]
        weights /= weights.max()
        np.testing.assert_allclose(np.sort(weights), [0.2] * (STEPS - K) + [1] * K, rtol=1e-9)
        seen.add(tuple(weights > 0.5))
    assert len(seen) > 10


@pytest.fixture
def enlisted():
    """Lists the controls for a test alone: others are about all that is listed."""
    listings = (fx.regulators.REGULATORS, fx.algorithms.ALGORITHMS)
    before = [dict(listing) for listing in listings]
    controls.enlist()
    yield
    for listing, known in zip(listings, before, strict=True):
        listing.clear()
        listing.update(known)


@pytest.mark.usefixtures("enlisted")
def test_steps_of_one_direction_have_another_s_length():
    def moved(algorithm, regulator):
        config = RunConfig(
            model=Choice("logistic_regression"),
            algorithm=Choice(algorithm),
            regulator=Choice(regulator),
            num_clients=3,
            batch_size=128,
        )
        built = build(config)
        key = jax.random.key(1)
        start = built.init(key)
        before = jax.tree.map(np.array, start.params)
        after, _ = jax.jit(built.round)(start, key, built.hyperparameters)
        leaves = jax.tree.map(lambda b, a: (b - a).ravel(), before, after.params)
        return np.concatenate(jax.tree.leaves(leaves))

    plain, ecgr = moved("fedavg", "identity"), moved("fedavg", "ecgr")
    long, short = np.linalg.norm(ecgr), np.linalg.norm(plain)
    assert abs(long / short - 1) > 0.01
    expected = plain * long / short
    np.testing.assert_allclose(moved("plain_as_long", "ecgr"), expected, rtol=1e-3, atol=1e-6)
    expected = ecgr * short / long
    np.testing.assert_allclose(moved("ecgr_as_short", "ecgr"), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("enlisted")
def test_configurations_know_them():
    for name in ("damped", "random_steps", "shortened", "turned"):
        config = RunConfig(regulator=Choice(name, {"beta": 0.5}))
        assert config.regulator.options["beta"] == 0.5
        assert fx.regulators.REGULATORS[name] is getattr(controls, name)
