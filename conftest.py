"""Tests run on four CPU devices, and refuse silent promotion of types and ranks.

They compile in a third of the time, with most of XLA's optimisations off and its older way to emit
loops, here and in the processes they start: a test takes few steps, and most of its time goes into
compilation. `python -m tests.reference` compiles as users do.
"""

import gc
import mmap
import os
from pathlib import Path

import jax
import jaxlib
import pytest

FLAGS = {"xla_cpu_use_fusion_emitters": "false", "xla_cpu_parallel_codegen_split_count": "1"}


def known_to_xla():
    """Those of the flags that this XLA has: it ends the process at one that it does not know."""
    for library in Path(jaxlib.__file__).parent.glob("libjax_common.*"):
        with (
            library.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code,
        ):
            return {flag: value for flag, value in FLAGS.items() if code.find(flag.encode()) >= 0}
    return {}


if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it
    flags = " ".join(f"--{flag}={value}" for flag, value in known_to_xla().items())
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)
# traces are many small objects that stay: looking through them again and again takes a tenth of all
gc.set_threshold(100_000, 50, 1000)

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
    """Compiles with all optimisations, and as users do in processes that are started."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    monkeypatch.delenv("XLA_FLAGS")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def pytest_addoption(parser):
    """Adds what the tests can be asked for."""
    parser.addoption(
        "--all-placements", action="store_true", help="cross algorithms, regulators and placements"
    )
