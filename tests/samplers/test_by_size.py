"""Cohorts drawn in proportion to sizes."""

import jax
import numpy as np
import pytest

from fedjax_ecgr.samplers import by_size
from tests.engine.test_parts import after, simulation
from tests.plain.samplers import by_size as plain
from tests.samplers.asking import ask, inclusion, many, near

SIZES = [1, 2, 3, 10, 4]


def test_cohorts_are_those_of_the_plain_loop():
    for seed in range(10):
        key = jax.random.key(seed)
        cohort = ask(by_size(), key, [*SIZES, 0], 3)
        assert (cohort.clients.tolist(), cohort.weights.tolist()) == plain.sample(
            key, 0, [*SIZES, 0], 3
        )


@pytest.mark.parametrize("size", [1, 2, 4])
def test_clients_are_in_as_often_as_drawn_one_after_another(size):
    clients, _ = many(by_size(), SIZES, size)
    wanted = plain.inclusion(SIZES, size)
    np.testing.assert_allclose(wanted.sum(), size)  # an account of all cohorts
    assert near(inclusion(clients, 5), wanted, len(clients))
    assert not near(inclusion(clients, 5), np.full(5, size / 5), len(clients))


def test_cohorts_are_as_likely_as_drawn_one_after_another():
    clients, _ = many(by_size(), SIZES, 2)
    for cohort, chance in plain.probabilities(SIZES, 2).items():
        assert near((clients == sorted(cohort)).all(axis=1).mean(), chance, len(clients))


def test_who_has_no_data_is_drawn_last_and_runs_average_evenly(x64):
    clients, _ = many(by_size(), [5, 0, 2, 0, 1], 3, draws=200)
    assert (clients == [0, 2, 4]).all()
    sizes = [9, 0, 4, 13, 0, 1]
    _, infos = after(simulation(sizes, sampler=by_size(), cohort_size=5), 3)
    present = np.array(sizes)[np.asarray(infos.cohort)] > 0
    assert present.sum(axis=1).tolist() == [4, 4, 4]
    losses = np.where(present, np.asarray(infos.clients.loss), 0).sum(axis=1) / 4
    np.testing.assert_allclose(infos.train_loss, losses, rtol=1e-12)
