"""What holds of every registered sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_ecgr.samplers import SAMPLERS
from tests.samplers.asking import ask, numbers_of

SIZES = [0, 5, 1, 2**24, 7, 3, 9, 2] * 3
"""As many as the default of power of choice needs."""


def told(clients):
    return jnp.where(clients % 2 == 0, clients.astype(float), 3.0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_cohorts_are_in_order_and_one_program_serves_all_rounds_and_numbers(name):
    sampler, traced = SAMPLERS[name](), 0
    sampler.check(len(SIZES), 5)
    assert sampler.name == name

    @jax.jit
    def one(key, state, t, numbers):
        nonlocal traced
        traced += 1
        return ask(sampler, key, SIZES, 5, t, state, told, **numbers)

    state, numbers, seen = sampler.init(len(SIZES)), numbers_of(sampler), set()
    for t in range(6):
        varied = {key: value * (1 + 0.01 * t) for key, value in numbers.items()}
        cohort = one(jax.random.key(t), state, t, varied)
        assert cohort.clients.shape == cohort.weights.shape == (5,)
        assert cohort.clients.dtype == jnp.int32
        assert jnp.issubdtype(cohort.weights.dtype, jnp.floating)
        clients, weights = np.asarray(cohort.clients), np.asarray(cohort.weights)
        assert (np.diff(clients) > 0).all()
        assert clients[0] >= 0
        assert clients[-1] < len(SIZES)
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()
        seen.add(tuple(clients.tolist()))
    assert traced == 1
    assert len(seen) > 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_many_keys_at_once_give_what_each_gives(name):
    sampler = SAMPLERS[name]()
    keys = jax.random.split(jax.random.key(9), 3)

    @jax.jit
    def one(key):
        return ask(sampler, key, SIZES, 5, losses=told)

    together = jax.jit(jax.vmap(one))(keys)
    for i, key in enumerate(keys):
        alone = one(key)
        np.testing.assert_array_equal(together.clients[i], alone.clients)
        np.testing.assert_array_equal(together.weights[i], alone.weights)
