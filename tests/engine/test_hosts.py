"""Two processes of two devices each against one of four, in float64."""

import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.engine.hosts import devices_asked, refuse_several
from tests.engine.test_sweep import EVERY, ROUNDS, different

ROOT = Path(__file__).parents[2]
SECONDS = 240  # a process whose other one is gone would wait for it

PROCESS = """
import sys
import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, number, path = sys.argv[1:]
jax.distributed.initialize(coordinator_address=address, num_processes=2, process_id=int(number))
assert (jax.device_count(), jax.local_device_count()) == (4, 2)

import numpy as np
from tests import quick
from tests.engine.test_hosts import computed

quick.use()
np.savez(path, **computed())
"""


def computed():
    """What members and a lone run over all devices come to, as arrays by name."""
    members = different(placement="devices")
    told = []
    outcomes = fx.run_members(members, rounds=ROUNDS, eval_every=EVERY, on_progress=told.append)
    lone = fx.run(members[0].simulation, rounds=ROUNDS, eval_every=EVERY)
    histories = [outcome.history for outcome in outcomes]
    found = {
        "tables": [history.table for history in (*histories, lone)],
        "cohorts": [history.cohorts for history in (*histories, lone)],
        "states": [history.state for history in histories],
        "lone": lone.state.params,
        "diverged": [str(outcome.diverged) for outcome in outcomes],
        "rounds": [one.rounds for one in told],
    }
    named, _ = jax.tree_util.tree_flatten_with_path(found)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in named}


@contextmanager
def started(*commands):
    """Starts processes, each from its code and arguments, and ends them."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
        "PYTHONPATH": str(ROOT),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", *command],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
            stack.callback(process.kill)
        yield processes


def ended(process):
    """Waits for a process and returns what it printed."""
    said, complaint = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, complaint
    return said


def free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def test_two_processes_are_one(x64, tmp_path):
    address = free_address()
    paths = [tmp_path / f"{number}.npz" for number in range(2)]
    with started(*((PROCESS, address, str(i), str(path)) for i, path in enumerate(paths))) as both:
        here = computed()
        for process in both:
            ended(process)
    for path in paths:
        there = np.load(path)
        assert set(there) == here.keys()
        for name, ours in here.items():
            if np.issubdtype(ours.dtype, np.inexact):
                np.testing.assert_allclose(there[name], ours, rtol=1e-9, atol=1e-300, err_msg=name)
            else:
                np.testing.assert_array_equal(there[name], ours, err_msg=name)


def test_the_guide_s_job_is_one_program_of_two_processes():
    page = (ROOT / "docs" / "guide" / "clusters.md").read_text()
    (job,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    address = free_address()
    with started(*((job, address, "2", str(number)) for number in range(2))) as both:
        first, second = map(ended, both)
    lines = first.splitlines()
    assert "4 devices, devices, 4 of them, each scan" in lines
    lone, *members = lines[-9:]
    assert members[0] == lone
    assert len(set(members)) > 1
    assert not set(lines[-9:]) & set(second.splitlines())


def test_several_processes_use_all_devices_and_write_no_files(monkeypatch):
    assert devices_asked(3) == 3
    refuse_several("out")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert devices_asked(None) == devices_asked(4) == 4
    with pytest.raises(fx.InputError, match=r"num_devices: 3 is not allowed.* of all processes"):
        devices_asked(3)
    with pytest.raises(fx.InputError, match=r"out: 2 processes .* not allowed, .*--shard"):
        refuse_several("out")
