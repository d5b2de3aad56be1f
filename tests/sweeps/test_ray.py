"""A study on a real Ray of two workers, one of which is killed; and what is refused."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import fedjax_ecgr as fx
from fedjax_ecgr import sweeps
from fedjax_ecgr.reports import read
from fedjax_ecgr.sweeps.on_ray import laid_out
from tests.sweeps.test_shares import assert_same

ROOT = Path(__file__).parents[2]
SECONDS = 300
STUDY = """
rounds = 30
eval-every = 2
num-clients = 3
model = "logistic_regression"
[grid]
algorithm = ["fedavg", "fedprox"]
seed = [0, 1, 2]
"""
PROCESS = """
import signal
import sys
import ray
from fedjax_ecgr.cli import main

before = signal.getsignal(signal.SIGTERM)
ray.init(
    "local",
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    runtime_env={"worker_process_setup_hook": "tests.sweeps.ray_worker.prepare"},
)
signal.signal(signal.SIGTERM, before)  # Ray has one of its own
try:
    status = main(sys.argv[1:])
finally:
    ray.shutdown()
sys.exit(status)
"""
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install 'fedjax-ecgr[ray]'",
)


@contextmanager
def started(folder, file, process, *options):
    """Starts a sweep on a Ray of its own, which ends with it, or here at the latest."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOLD": str(file),
    }
    command = ["sweep", "study.toml", "--ray", "local", "--tasks", "2", "--out", "sweep", *options]
    began = subprocess.Popen(
        [sys.executable, *process, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with began:
        try:
            yield began
        finally:
            began.kill()


def told(file):
    """What workers told: (process, what, rounds)."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), what, int(done)) for pid, what, done in map(str.split, lines)]


def at_work(file, process):
    """Waits until two workers have saved something twice, and returns their processes."""
    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end:
        saved = [pid for pid, what, _ in told(file) if what == "saved"]
        pids = [pid for pid in dict.fromkeys(saved) if saved.count(pid) >= 2]
        if len(pids) == 2:
            return pids
        time.sleep(0.02)
    process.kill()
    raise AssertionError(ended(process))


def resumed(file):
    """The rounds that waves had done when they were gone on with."""
    return [done for _, what, done in told(file) if what == "resumed"]


def ended(process):
    return process.communicate(timeout=SECONDS)[0]


@needs_ray
def test_a_sweep_on_ray_outlives_its_workers_and_its_driver(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)

    file = tmp_path / "none"
    with started(tmp_path, file, ("-m", "fedjax_ecgr"), "--num-devices", "99") as refused:
        said = ended(refused)
    assert refused.returncode == 2, said
    assert "error: study.toml: num_devices: 99 is not allowed" in said

    file = tmp_path / "first"
    with started(tmp_path, file, ("-c", PROCESS)) as first:
        at_work(file, first)
        first.send_signal(signal.SIGTERM)
        said = ended(first)
    assert first.returncode == 143, said
    assert "error: ended by SIGTERM; the same command goes on with sweep" in said
    assert resumed(file) == [0, 0]

    file = tmp_path / "second"
    with started(tmp_path, file, ("-c", PROCESS)) as second:
        victim, _ = at_work(file, second)
        os.kill(victim, signal.SIGKILL)
        said = ended(second)
    assert second.returncode == 0, said
    went_on = resumed(file)
    assert len(went_on) == 3
    assert min(went_on) > 0
    assert went_on[2] > min(went_on[:2])

    sweeps.conduct(sweeps.read(tmp_path / "study.toml"), tmp_path / "plain")
    ours, theirs = read(tmp_path / "sweep"), read(tmp_path / "plain")
    assert len(ours.history["round"]) == 6 * 30
    assert_same(ours, theirs)
    assert not (tmp_path / "sweep" / "shares").exists()


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": {"memory": 1.0, **resources}}


@pytest.mark.parametrize(
    ("nodes", "tasks", "laid"),
    [
        ([node(CPU=8.0)], None, (1, 8, 0)),
        ([node(CPU=8.0)], 3, (3, 2, 0)),
        ([node(CPU=2.0)], 5, (5, 1, 0)),
        ([node(CPU=8.0), node(CPU=6.0), node(alive=False, CPU=1.0)], None, (2, 6, 0)),
        ([node(), node(CPU=16.0, GPU=4.0), node(CPU=8.0)], None, (1, 16, 4)),
        ([node(CPU=16.0, GPU=4.0), node(CPU=16.0, GPU=4.0)], 8, (8, 4, 1)),
        ([node(CPU=16.0, GPU=1.0)], 3, (3, 5, 1)),
        ([node(CPU=1.0)] * 20, None, (10, 1, 0)),
    ],
)
def test_tasks_share_machines_evenly(nodes, tasks, laid):
    assert laid_out(nodes, 10, tasks) == laid


def test_says_what_is_missing(monkeypatch, tmp_path):
    with pytest.raises(fx.InputError, match="ray: no machine of the cluster has a core"):
        laid_out([node(CPU=0.0)], 10, None)
    study = sweeps.study({"rounds": 1, "num-clients": 3})
    with pytest.raises(fx.InputError, match=r"tasks: 2 is not allowed.*the members there are"):
        sweeps.conduct_on_ray(study, tmp_path / "out", "local", tasks=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(fx.InputError, match=r"ray: it is not installed: pip install .*\[ray\]"):
        sweeps.conduct_on_ray(study, tmp_path / "out", "local")
    with pytest.raises(fx.InputError, match="it must be on a file system that all machines share"):
        sweeps.take_part(study, tmp_path / "out", (1, 1))
    assert not (tmp_path / "out").exists()
