"""Cohorts drawn evenly."""

import itertools

import jax
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.samplers import uniform
from tests.engine.test_parts import SIZES, after, simulation
from tests.plain import federation
from tests.plain.samplers import uniform as plain
from tests.samplers.asking import ask, many, near


@pytest.mark.parametrize("size", [1, 3, 6])
def test_cohorts_are_those_of_the_plain_loop(size):
    for seed in range(10):
        key = jax.random.key(seed)
        clients, weights = plain.sample(key, 0, SIZES, size)
        cohort = ask(uniform(), key, SIZES, size)
        assert cohort.clients.tolist() == clients
        assert cohort.weights.tolist() == weights
        even = ask(uniform("even"), key, SIZES, size)
        assert even.clients.tolist() == clients
        assert even.weights.tolist() == [1.0] * size


def test_every_cohort_is_as_likely():
    clients, _ = many(uniform(), SIZES, 2)
    pairs = list(itertools.combinations(range(6), 2))
    shares = [(clients == pair).all(axis=1).mean() for pair in pairs]
    assert near(shares, np.full(15, 1 / 15), len(clients))


def test_runs_take_these_cohorts_and_weights(x64):
    key = jax.random.key(3)
    cohorts = [federation.cohort(jax.random.fold_in(key, t), 6, 3) for t in range(4)]
    for weighting, weigh in (("size", lambda n: n), ("even", lambda n: n > 0)):
        _, infos = after(simulation(sampler=uniform(weighting), cohort_size=3), 4)
        assert infos.cohort.tolist() == cohorts
        for t, clients in enumerate(cohorts):
            weights = np.array([weigh(SIZES[i]) for i in clients], float)
            loss = weights @ np.asarray(infos.clients.loss[t]) / weights.sum()
            np.testing.assert_allclose(infos.train_loss[t], loss, rtol=1e-12)


def test_an_unknown_weighting_is_named():
    with pytest.raises(fx.InputError, match=r"weighting: unknown 'sizes', did you mean 'size'\?"):
        uniform("sizes")
