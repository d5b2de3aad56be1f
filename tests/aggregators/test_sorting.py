"""The sorting network against NumPy's sort."""

import jax
import numpy as np
import pytest

from fedjax_ecgr.aggregators import sorting
from fedjax_ecgr.aggregators.sorting import _partners

sort_present = jax.jit(sorting.sort_present)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100])
def test_sorts_each_column(n):
    rng = np.random.default_rng(n)
    values = rng.integers(-9, 9, (n, 50)).astype(np.float32)
    present = rng.random(n) < 0.7
    ordered = sort_present(values, present)
    expected = np.sort(np.where(present[:, None], values, np.inf), axis=0)
    np.testing.assert_array_equal(ordered, expected)


@pytest.mark.parametrize("n", range(1, 11))
def test_sorts_all_zeros_and_ones(n):
    """A network that sorts those sorts everything."""
    bits = (np.arange(2**n)[None] >> np.arange(n)[:, None] & 1).astype(np.float32)
    ordered = sort_present(bits, np.ones(n, bool))
    np.testing.assert_array_equal(ordered, np.sort(bits, axis=0))


@pytest.mark.parametrize("n", [2, 5, 64, 100, 1000])
def test_partners_pair_off_in_few_passes(n):
    partners = _partners(n)
    rounds = int(np.ceil(np.log2(n)))
    assert len(partners) == rounds * (rounds + 1) // 2
    for partner in partners:
        np.testing.assert_array_equal(partner[partner], np.arange(n))


def test_each_element_may_be_present_or_not():
    values = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    present = ~np.eye(6, dtype=bool)
    ordered = sort_present(values, present)
    expected = np.sort(np.where(present, values, np.inf), axis=0)
    np.testing.assert_array_equal(ordered, expected)
