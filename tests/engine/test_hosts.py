"""Two processes of two devices each against one of four, in float64."""

import os
import socket
import subprocess
import sys
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
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, number, path = sys.argv[1:]
jax.distributed.initialize(coordinator_address=address, num_processes=2, process_id=int(number))
assert (jax.device_count(), jax.local_device_count()) == (4, 2)

import numpy as np
from tests.engine.test_hosts import computed

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


def test_two_processes_are_one(x64, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    paths = [tmp_path / f"{number}.npz" for number in range(2)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(number), str(path)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, path in enumerate(paths)
    ]
    try:
        here = computed()
        for process in processes:
            said, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
    for path in paths:
        there = np.load(path)
        assert set(there) == here.keys()
        for name, ours in here.items():
            if np.issubdtype(ours.dtype, np.inexact):
                np.testing.assert_allclose(there[name], ours, rtol=1e-9, atol=1e-300, err_msg=name)
            else:
                np.testing.assert_array_equal(there[name], ours, err_msg=name)


def test_several_processes_use_all_devices_and_write_no_files(monkeypatch):
    assert devices_asked(3) == 3
    refuse_several("out")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert devices_asked(None) == devices_asked(4) == 4
    with pytest.raises(fx.InputError, match=r"num_devices: 3 is not allowed.* of all processes"):
        devices_asked(3)
    with pytest.raises(fx.InputError, match=r"out: 2 processes .* not allowed, .*--shard"):
        refuse_several("out")
