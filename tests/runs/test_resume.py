"""A run that stopped goes on as if it had not, bit for bit; and what is refused."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr import runs
from fedjax_ecgr.check import InputError
from fedjax_ecgr.cli import main
from fedjax_ecgr.process import Terminated
from fedjax_ecgr.runs import Choice, RunConfig
from fedjax_ecgr.runs.checkpoints import Checkpoints

CONFIG = RunConfig(
    algorithm=Choice("scaffold"),
    regulator=Choice("ecgr"),
    transforms=(Choice("top_k"),),
    model=Choice("logistic_regression"),
    num_clients=3,
    cohort_size=2,
    rounds=7,
    eval_every=2,
    batch_size=64,
    placement="scan",  # whatever devices a process has
)


@pytest.fixture(scope="module")
def built():
    return runs.build(CONFIG)


@pytest.fixture(scope="module")
def whole(built, tmp_path_factory):
    """The run that did not stop: its folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    runs.record(CONFIG, built, folder)
    return runs.load(folder)


def assert_same(run, other):
    assert list(run.table) == list(other.table)  # in the same order
    for name, column in other.table.items():
        np.testing.assert_array_equal(run.table[name], column, err_msg=name)
    np.testing.assert_array_equal(run.cohorts, other.cohorts)
    for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(a, b)


def stop_after(rounds, how):
    def told(progress):
        if progress.round == rounds:
            how()

    return told


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("placement", ["scan", "vmap", "devices"])
def test_goes_on_bit_for_bit(placement, tmp_path):
    config = dataclasses.replace(CONFIG, placement=placement)
    built = runs.build(config)
    runs.record(config, built, tmp_path / "whole")
    with pytest.raises(Terminated):
        runs.record(config, built, tmp_path / "run", on_progress=stop_after(4, terminate))
    stopped = runs.load(tmp_path / "run")
    assert (stopped.status, len(stopped.cohorts)) == ("interrupted", 4)
    history = runs.resume(built, stopped)
    assert len(history.cohorts) == 7
    done = runs.load(tmp_path / "run")
    assert (done.status, done.summary["model_round"]) == ("finished", 7)
    assert_same(done, runs.load(tmp_path / "whole"))
    assert not (tmp_path / "run" / "checkpoint").exists()


KILLED = """
import os, sys
from fedjax_ecgr import runs
from fedjax_ecgr.runs import store
from tests import quick
from tests.runs.test_resume import CONFIG, stop_after

quick.use()

class Always(store.Checkpoints):
    due = property(lambda self: sys.argv[2] == "saved")

    def save(self, *args):
        super().save(*args)
        self.wait()

store.Checkpoints = Always
kill = stop_after(6, lambda: os.kill(os.getpid(), 9))
runs.record(CONFIG, runs.build(CONFIG), sys.argv[1], on_progress=kill)
"""


@pytest.mark.parametrize("saved", ["saved", "never"])
def test_a_killed_run_goes_on_from_its_last_checkpoint_or_the_start(built, whole, tmp_path, saved):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run"), saved]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = runs.load(tmp_path / "run")
    assert killed.status == "killed"
    saves = list((tmp_path / "run").glob("checkpoint/run-*[0-9]"))
    assert bool(saves) == (saved == "saved")
    told = []
    runs.resume(built, killed, on_progress=lambda progress: told.append(progress.round))
    assert told == ([6, 7] if saved == "saved" else [2, 4, 6, 7])
    assert_same(runs.load(tmp_path / "run"), whole)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    saver, tree = Checkpoints(tmp_path), {"a": np.arange(3), "none": np.zeros((0, 2))}
    saver.save("run", 2, tree)
    saver.save("run", 4, {**tree, "a": np.arange(3) + 1})
    saver.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-000000002", "run-000000004"]
    done, found = saver.latest("run", tree)
    assert done == 4
    np.testing.assert_array_equal(found["a"], [1, 2, 3])
    assert found["none"].shape == (0, 2)
    for part in (tmp_path / "run-000000004").rglob("*"):
        if part.is_file():
            part.write_bytes(b"")
    assert saver.latest("run", tree)[0] == 2
    assert saver.latest("run", {**tree, "a": np.zeros(4)}) is None
    assert saver.latest("other", tree) is None


def test_a_checkpoint_that_cannot_be_written_names_its_path_and_nothing_waits(tmp_path):
    """The process ends: Orbax's threads wait for five minutes for a folder made beside them."""
    (tmp_path / "file").write_text("")
    code = """
import sys
from pathlib import Path
import numpy as np
from fedjax_ecgr.runs.checkpoints import Checkpoints
saver = Checkpoints(Path(sys.argv[1]))
try:
    saver.save("run", 1, {"a": np.arange(3)})
    saver.wait()
except OSError as error:
    print(error.strerror, error.filename)
"""
    command = [sys.executable, "-c", code, tmp_path / "file"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "cannot be saved" in done.stdout
    assert str(tmp_path / "file") in done.stdout


def test_a_history_goes_on(built):
    half = fx.run(built, rounds=4, eval_every=2)
    whole, again = (fx.run(built, rounds=7, eval_every=2, after=half) for _ in range(2))
    straight = fx.run(built, rounds=7, eval_every=2)
    for name, column in straight.table.items():
        np.testing.assert_array_equal(whole.table[name], column, err_msg=name)
        np.testing.assert_array_equal(again.table[name], column, err_msg=name)
    assert len(half.cohorts) == 4
    longer = fx.run(built, rounds=7, eval_every=2, after=fx.run(built, rounds=5, eval_every=2))
    accuracy = longer.table["test_accuracy"]
    assert (np.flatnonzero(np.isfinite(accuracy)) + 1).tolist() == [2, 4, 5, 6, 7]
    np.testing.assert_array_equal(
        np.delete(accuracy, 4), np.delete(straight.table["test_accuracy"], 4)
    )
    with pytest.raises(InputError, match="rounds: 4 is not allowed after 4"):
        fx.run(built, rounds=4, after=half)
    with pytest.raises(InputError, match="after: 3 is not allowed"):
        fx.run(built, rounds=4, after=3)


def test_only_a_run_that_came_to_no_end_goes_on(built, whole, tmp_path, capsys):
    with pytest.raises(InputError, match="nothing is left of the run, it has finished"):
        runs.resume(built, whole)
    assert main(["run", "--resume", str(whole.folder), "--seed", "3"]) == 2
    assert "seed: not allowed beside --resume" in capsys.readouterr().err
    assert main(["run", "--resume", str(tmp_path)]) == 2
    assert "is not a recorded run" in capsys.readouterr().err


def test_a_run_that_goes_on_is_one_process_s(built, tmp_path):
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        runs.record(CONFIG, built, tmp_path / "run", on_progress=stop_after(2, interrupted))
    stopped = runs.load(tmp_path / "run")

    def second(progress):
        with pytest.raises(InputError, match="is being written by process"):
            runs.resume(built, stopped)

    runs.resume(built, stopped, on_progress=second)
    with pytest.raises(InputError, match="it has finished"):  # since `stopped` was read
        runs.resume(built, stopped)


def test_the_command_goes_on(whole, built, tmp_path, capsys):
    with pytest.raises(Terminated):
        runs.record(CONFIG, built, tmp_path / "run", on_progress=stop_after(2, terminate))
    assert main(["run", "--resume", str(tmp_path / "run")]) == 0
    assert "round 7/7" in capsys.readouterr().out
    assert_same(runs.load(tmp_path / "run"), whole)
