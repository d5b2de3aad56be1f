"""Tests run on four CPU devices, and refuse silent promotion of types and ranks.

They compile with most of XLA's optimisations off, here and in the processes they start: a test
takes few steps, and most of its time is compilation.
"""

import os

os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Runs the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def optimised(monkeypatch):
    """Compiles as users do."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def pytest_addoption(parser):
    """Adds what the tests can be asked for."""
    parser.addoption(
        "--all-placements", action="store_true", help="cross algorithms, regulators and placements"
    )
