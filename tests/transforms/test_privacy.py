"""The ε of noisy means, against the papers' formulas and a table."""

import sys

import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.transforms import epsilon

pytest.importorskip("dp_accounting", reason="dp-accounting is not installed (extra `dp`)")

from tests.plain.transforms import privacy as plain

TABLE = [
    # z, m, N, T, δ, ε
    (1.0, 10, 100, 100, 1e-5, 83.936917),
    (2.0, 10, 1000, 50, 1e-5, 1.275214),
    (8.0, 50, 100, 10, 1e-5, 3.102016),
    (4.0, 9, 10, 10, 1e-5, 8.079406),
    (4.0, 10, 10, 10, 1e-5, 8.079406),
]
"""By dp-accounting 0.6.0: of two bounds by Rényi orders, with sampling and without, the smaller."""


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_epsilon_is_that_of_the_table(row):
    *given, wanted = row
    np.testing.assert_allclose(epsilon(*given), wanted, rtol=1e-6)


@pytest.mark.parametrize("row", TABLE[1:3], ids=str)
def test_with_sampling_it_is_the_papers_bound(row):
    z, m, num_clients, rounds, delta, _ = row
    wanted = plain.sampled(z / 2, m / num_clients, rounds, delta)
    np.testing.assert_allclose(epsilon(z, m, num_clients, rounds, delta), wanted, rtol=1e-9)


@pytest.mark.parametrize("rounds", [1, 10, 200])
@pytest.mark.parametrize("z", [1.0, 4.0, 20.0])
def test_of_all_clients_it_is_near_the_gaussian_mechanisms_exact_one(z, rounds):
    """One client replaced moves the mean by twice what it can contribute: noise of z / 2 times."""
    exact = plain.gaussian(z / 2, rounds, 1e-5)
    found = epsilon(z, 10, 10, rounds)
    assert exact <= found < 1.25 * exact
    # never more with sampling, however little is gained
    assert epsilon(z, 9, 10, rounds) <= found


def test_it_grows_with_rounds_and_cohorts_and_falls_with_noise():
    assert epsilon(4.0, 10, 1000, 20) > epsilon(4.0, 10, 1000, 10)
    assert epsilon(4.0, 20, 1000, 10) > epsilon(4.0, 10, 1000, 10)
    assert epsilon(8.0, 10, 1000, 10) < epsilon(4.0, 10, 1000, 10)
    assert epsilon(0.0, 10, 1000, 10) == np.inf


def test_no_noise_is_too_little_or_too_much_to_be_accounted_for():
    given_away = [epsilon(z, 10, 1000, 10) for z in (1e-300, 1e-160, 1e-99, 1.0, 1e5, 1e12, 1e308)]
    assert given_away[:2] == [np.inf, np.inf]
    assert np.isfinite(given_away[2:]).all()
    assert (np.diff(given_away[2:]) <= 0).all()
    assert 0 <= given_away[-1] < 1e-3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((-1.0, 5, 10, 5), "noise_multiplier: -1.0 is not allowed"),
        (
            ([1.0, 2.0], 5, 10, 5),
            "noise_multiplier: [1.0, 2.0] is not allowed, it must be one number",
        ),
        ((1.0, 20, 10, 5), "cohort_size: 20 is not allowed"),
        ((1.0, 5, 10, 0), "rounds: 0 is not allowed"),
        ((1.0, 5, 10, 5, 0), "delta: 0 is not allowed"),
        ((1.0, 5, 10, 5, 1), "delta: 1 is not allowed"),
    ],
)
def test_bad_numbers_are_named(given, said):
    with pytest.raises(fx.InputError) as caught:
        epsilon(*given)
    assert said in str(caught.value)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(fx.InputError, match=r"pip install 'fedjax-ecgr\[dp\]'") as caught:
        epsilon(1.0, 5, 10, 5)
    assert "\n" not in str(caught.value)
