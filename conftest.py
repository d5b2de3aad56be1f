"""Tests run on four CPU devices, and refuse silent promotion of types and ranks.

They compile quickly, with most of XLA's optimisations off, without its checks of its own passes,
and with its older way to emit loops where it still has one, here and in the processes they start: a
test takes few steps, and most of its time goes into compilation. `python -m tests.reference`
compiles as users do. What is compiled here is kept in pytest's own cache for the next time;
`--cache-clear` forgets it.

They draw by a generator that compiles quickly, too (`tests/quick.py`). What is documented, and most
processes that tests start, draw as users do; with `--threefry` all do.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import jax
import pytest

from fedjax_ecgr.engine import streams
from tests import quick

FLAGS = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_disable_hlo_passes=hlo-verifier,while-loop-invariant-code-motion",
)


def known_to_xla(*flags):
    """Whether this XLA has these flags: it ends the process at one that it does not know."""
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it
    known = FLAGS if known_to_xla(*FLAGS) else filter(known_to_xla, FLAGS)
    flags = [*known, *os.environ.get("XLA_FLAGS", "").split()]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
elif hasattr(os, "sched_setaffinity"):
    # a core a worker, where there are no more of them: threads of two on two hinder one another
    cores = sorted(os.sched_getaffinity(0))
    if int(os.environ["PYTEST_XDIST_WORKER_COUNT"]) >= len(cores):
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_traceback_in_locations_limit", 0)  # no places in Python in what is compiled
# a job in the background is started with Ctrl-C ignored, which some tests send to themselves
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


MUCH = 2**31  # bytes: some ten states of the code


def pytest_configure(config):
    """Draws quickly, and keeps compiled programs, by what they are compiled from and for."""
    if not config.getoption("--threefry"):
        os.environ[quick.ASKED] = "1"
    quick.use()
    if not hasattr(config, "cache"):  # -p no:cacheprovider
        return
    programs = config.cache.mkdir("programs")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        with suppress(FileNotFoundError):  # as another pytest beside this one removes them
            if sum(file.stat().st_size for file in programs.iterdir()) > MUCH:
                shutil.rmtree(programs)
    kept = {
        "jax_compilation_cache_dir": str(programs),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    for name, value in kept.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # for the processes that tests start


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keeps what tests decode and compile out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def documented(request, monkeypatch):
    """What is documented was drawn as users draw."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.setattr(jax.random, "key", quick.THREEFRY)
        monkeypatch.setattr(streams, "IMPL", "threefry2x32")


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


LONGEST = ("test_site.py", "test_survival.py", "test_release.py")


def pytest_collection_modifyitems(items):
    """Begins with what takes longest, so that one worker does not end long after the others."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_addoption(parser):
    """Adds what the tests can be asked for."""
    parser.addoption(
        "--all-placements", action="store_true", help="cross algorithms, regulators and placements"
    )
    parser.addoption("--threefry", action="store_true", help="draw as users do everywhere")
