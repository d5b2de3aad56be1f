"""Tests run on four CPU devices, and refuse silent promotion of types and ranks."""

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
def quick():
    """Compiles faster and runs slower, which so few steps do not feel."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def pytest_addoption(parser):
    """Adds what the tests can be asked for."""
    parser.addoption(
        "--all-placements", action="store_true", help="cross algorithms, regulators and placements"
    )
