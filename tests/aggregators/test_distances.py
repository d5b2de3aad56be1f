"""Distances against NumPy in float64, where float32's usual formula fails."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_ecgr.aggregators.distances import (
    distances_to,
    power_of_two,
    squared_distances,
    typical_size,
)
from fedjax_ecgr.aggregators.matrix import as_rows
from tests.aggregators.stacks import draw


def rows_of(updates, present=None):
    present = np.ones(len(updates), bool) if present is None else present
    return as_rows(jnp.asarray(updates, jnp.float32), jnp.asarray(present))


def truth(updates):
    updates = np.asarray(updates, np.float32).astype(float)
    return np.sum((updates[:, None] - updates[None]) ** 2, axis=-1)


def test_small_differences_of_large_updates_are_exact():
    """‖a‖² + ‖b‖² − 2⟨a, b⟩ in float32 would be off by more than the distances themselves."""
    updates = 1000 + draw(0) * 1e-2
    measured = squared_distances(rows_of(updates), jnp.array(1.0))
    np.testing.assert_allclose(measured, truth(updates), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_typical_updates_have_distances_in_range(scale):
    updates = draw(1) * scale
    updates[0] *= 1e3
    unit = typical_size(rows_of(updates))
    measured = np.asarray(squared_distances(rows_of(updates), unit), float)
    np.testing.assert_allclose(measured, truth(updates) / float(unit) ** 2, rtol=1e-5)
    # symmetric to the last digit: nearest pairs tie
    np.testing.assert_array_equal(measured, measured.T)


def test_the_typical_size_is_no_minoritys():
    for spoilt in (0.0, 1e38):
        updates = draw(2)
        updates[:5] = spoilt
        assert 0.5 < float(typical_size(rows_of(updates))) < 8


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_distances_to_a_point(scale):
    updates, centre = draw(3) * scale, draw(4)[0] * scale
    measured = distances_to(jnp.asarray(centre, jnp.float32), rows_of(updates))
    expected = np.linalg.norm((updates - centre) / scale, axis=1)
    np.testing.assert_allclose(measured / scale, expected, rtol=1e-5)


def test_distances_out_of_range_are_the_largest_number():
    largest = np.finfo(np.float32).max
    updates = np.array([[largest] * 3, [-largest] * 3, [0.0] * 3])
    measured = distances_to(jnp.zeros(3), rows_of(updates))
    assert measured.tolist() == [largest, largest, 0]


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 0.3, 1.0, 5.0, 3.4e38])
def test_a_power_of_two_and_its_reciprocal_are_normal_numbers(size):
    power = float(power_of_two(jnp.array(size, jnp.float32)))
    tiny = float(np.finfo(np.float32).tiny)
    assert np.log2(power) % 1 == 0
    assert tiny <= power
    assert tiny <= 1 / power
    if 1e-38 < size < 1e38:
        assert size < power <= 2 * size
