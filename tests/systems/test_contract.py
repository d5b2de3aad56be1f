"""What holds of every registered system."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_ecgr.systems import SYSTEMS
from fedjax_ecgr.systems.base import Task


@pytest.mark.parametrize("name", SYSTEMS)
def test_nobody_does_more_than_asked_and_one_program_serves_all_numbers(name):
    system, traced = SYSTEMS[name](), 0
    assert system.name == name
    steps = jnp.array([0, 5, 1, 30], jnp.int32)

    @jax.jit
    def one(key, devices_key, numbers):
        nonlocal traced
        traced += 1
        task = Task(jnp.array([0, 2, 3, 6], jnp.int32), steps, 2**33, 2**31, jnp.int32(0))
        return system.work(key, system.init(devices_key, 7, numbers), task, numbers)

    numbers = {key: jnp.asarray(value, float) for key, value in system.hyperparameters.items()}
    keys = jax.random.split(jax.random.key(0), 4)
    for factor, key in zip((1.0, 0.5, 1e-9, 0.9), keys, strict=True):
        varied = {name: value * factor for name, value in numbers.items()}
        done = one(key, keys[0], varied)
        assert done.num_steps.dtype == jnp.int32
        assert ((np.asarray(done.num_steps) >= 0) & (done.num_steps <= steps)).all()
        assert done.seconds.shape == ()
        assert np.isfinite(done.seconds)
        assert done.seconds >= 0
    assert traced == 1
    together = jax.vmap(lambda key: one(key, keys[0], numbers))(keys)
    for i, key in enumerate(keys):
        alone = one(key, keys[0], numbers)
        np.testing.assert_array_equal(together.num_steps[i], alone.num_steps)
        np.testing.assert_allclose(together.seconds[i], alone.seconds, rtol=1e-6)
