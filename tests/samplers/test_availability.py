"""Windows of availability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.samplers import availability
from fedjax_ecgr.samplers.availability import is_available
from tests.engine.test_parts import after, simulation
from tests.plain.samplers import availability as plain
from tests.samplers.asking import ask, inclusion, many, near

SIZES = [9, 4, 1, 13, 1, 6, 2, 2]
WINDOWS = [
    (24, "1/4", 24), (24, "1/4", 12), (10, "3/10", 7), (10, "7/10", 30), (7, "1/3", 21),
    (30, "1/10", 30), (1, "1/2", 8), ("5/2", "2/5", 10), (6, "1", 5),
]  # fmt: skip


@pytest.mark.parametrize(("period", "share", "num_clients"), WINDOWS)
def test_windows_are_those_of_exact_fractions_in_late_rounds_too(period, share, num_clients):
    order = np.random.default_rng(0).permutation(num_clients).astype(np.int32)
    numbers = [jnp.float32(float(plain.Fraction(x))) for x in (period, share)]
    there = jax.jit(lambda t: is_available(jnp.asarray(order), t, *numbers))
    for first in (0, 1000, 2**20):
        for t in range(first, first + 31):
            wanted = plain.available(order.tolist(), t, period, share)
            assert there(jnp.int32(t)).tolist() == wanted, t


def test_cohorts_are_those_of_the_plain_loop():
    sampler = availability(period=4, available_share=0.5)
    order = sampler.init(8)
    assert sorted(order.tolist()) == list(range(8))
    assert (availability(4, 0.5, offset_seed=1).init(8) != order).any()
    numbers = {"period": 4, "available_share": 0.5}
    for t in range(8):
        key = jax.random.key(t)
        cohort = ask(sampler, key, SIZES, 3, t)
        wanted = plain.sample(key, t, SIZES, 3, numbers, order.tolist())
        assert (cohort.clients.tolist(), cohort.weights.tolist()) == wanted


def test_cohorts_are_drawn_evenly_from_those_who_are_there():
    sampler = availability(period=2, available_share=0.5)
    there = np.array(plain.available(sampler.init(8).tolist(), 1, 2, "1/2"))
    assert there.sum() == 4
    clients, weights = many(sampler, SIZES, 2, t=1)
    assert near(inclusion(clients, 8), there / 2, len(clients))
    assert (weights == np.array(SIZES)[clients]).all()


def test_places_for_which_nobody_is_there_have_no_weight(x64):
    sampler = availability(period=4, available_share=0.25)
    order = sampler.init(8).tolist()
    built = simulation(SIZES, sampler=sampler, cohort_size=5)
    _, infos = after(built, 4)
    assert infos.asked.tolist() == [2] * 4
    for t in range(4):
        there = [i for i, yes in enumerate(plain.available(order, t, 4, "1/4")) if yes]
        assert len(there) == 2
        worked = np.asarray(infos.cohort[t])[np.asarray(infos.clients.num_steps[t]) > 0]
        assert worked.tolist() == there
        weights = np.array([SIZES[i] if i in there else 0 for i in infos.cohort[t].tolist()])
        loss = weights @ np.asarray(infos.clients.loss[t]) / weights.sum()
        np.testing.assert_allclose(infos.train_loss[t], loss, rtol=1e-12)


def test_its_numbers_are_varied_in_one_program():
    shares = jnp.array([0.25, 0.5, 1.0])
    sampler, key = availability(period=4), jax.random.key(0)
    together = jax.vmap(lambda s: ask(sampler, key, SIZES, 8, available_share=s))(shares)
    assert (np.asarray(together.weights) > 0).sum(axis=1).tolist() == [2, 4, 8]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"period": 0.5}, "period: 0.5 is not allowed, it must be in [1, inf)"),
        ({"available_share": 0}, "available_share: 0 is not allowed, it must be in (0, 1]"),
        ({"offset_seed": -1}, "offset_seed: -1 is not allowed"),
    ],
)
def test_bad_numbers_are_named(numbers, said):
    with pytest.raises(fx.InputError) as caught:
        availability(**numbers)
    assert said in str(caught.value)
