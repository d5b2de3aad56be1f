"""What trackers are told over a run and a sweep, and what comes of those that fail."""

import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr import runs
from fedjax_ecgr.cli import main
from fedjax_ecgr.runs.config import flat
from fedjax_ecgr.trackers import TRACKERS, About, Tracker, Trackers, Tracking, chosen
from tests.trackers.runs import about, failing, follow, noting, rows

QUICK = ["--model", "logistic_regression", "--num-clients", "3", "--rounds", "5"]
PACKAGES = {
    "tensorboard": ("tensorboardX", "tensorboardX.proto.event_pb2"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow-skinny", "mlflow"),
}
STUDY = """
dataset = "digits"
model = "logistic_regression"
num-clients = 3
rounds = 3
eval-every = 2
[grid]
learning-rate = [0.05, 3e38]
seed = [0, 1]
"""


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What a tracker called `noting` is told; others fail."""
    monkeypatch.chdir(tmp_path)
    told: list = []
    monkeypatch.setitem(TRACKERS, "noting", lambda: noting(told))
    for when in ("begin", "rows", "end"):
        monkeypatch.setitem(TRACKERS, when, lambda when=when: failing(when, when))
    return told


def assert_columns(tables, expected):
    assert expected.keys() == tables[0].keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(np.concatenate([t[name] for t in tables]), column, name)


def test_a_tracker_is_told_of_a_run_as_it_goes_on_whatever_others_do(told, capsys):
    options = [*QUICK, "--eval-every", "2", "--out", "runs/one"]
    assert main(["run", *options, "--track", "rows,noting,begin,end"]) == 0
    recorded = runs.load("runs/one")
    assert recorded.status == "finished"
    begun, *tables, status = told
    assert begun == About("one", Path("runs/one/noting"), flat(recorded.config))
    assert [table["round"].tolist() for table in tables] == [[1, 2], [3, 4], [5]]
    assert_columns(tables, recorded.table)
    assert status == "finished"
    reason = "no longer tracks, all else goes on: OSError: [Errno 28] No space left on device"
    assert capsys.readouterr().err.splitlines() == [
        f"{n}: {reason}" for n in ("begin", "rows", "end")
    ]
    assert "track" not in Path("runs/one/config.json").read_text()


def test_a_run_that_goes_on_is_told_of_from_where_it_does(told, monkeypatch):
    def begin(run: About) -> Tracking:
        def stop(table):
            if 2 in table["round"]:
                signal.raise_signal(signal.SIGINT)

        return Tracking(stop, told.append)

    monkeypatch.setitem(TRACKERS, "stopping", lambda: Tracker("stopping", begin))
    assert main(["run", *QUICK, "--out", "one", "--track", "noting,stopping"]) == 130
    assert told[-2:] == ["interrupted", "interrupted"]
    assert [table["round"].tolist() for table in told[1:-2]] == [[1], [2]]
    told.clear()
    assert main(["run", "--resume", "one", "--track", "noting"]) == 0
    begun, *tables, status = told
    again = runs.load("one").table
    assert begun.first == 3
    assert_columns(tables, {name: column[2:] for name, column in again.items()})
    assert status == "finished"


def test_a_tracker_is_told_of_each_member_of_a_sweep(told, capsys):
    Path("study.toml").write_text(STUDY)
    assert main(["sweep", "study.toml", "--out", "st", "--track", "noting,rows"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    members = pq.read_table("st/members.parquet", use_threads=False).to_pylist()
    history = pq.read_table("st/history.parquet", use_threads=False)
    assert len(told) == 3 * len(members) == 12
    statuses = set()
    for begun, table, status in zip(told[::3], told[1::3], told[2::3], strict=True):
        (member,) = (m for m in members if m["member"] == begun.options["member"])
        rate, seed = member["algorithm.learning_rate"], member["seed"]
        called = f"algorithm.learning_rate={rate},seed={seed} {member['member'][:8]}"
        assert begun[:2] == (called, Path("st/noting"))
        assert (begun.group, begun.first, begun.options["rounds"]) == ("st", 1, 3)
        mine = history.filter([name == member["member"] for name in history["member"].to_pylist()])
        assert_columns([table], {name: mine[name].to_numpy() for name in table})
        assert status == member["status"]
        statuses.add(status)
    assert statuses == {"finished", "diverged"}
    told.clear()
    assert main(["sweep", "study.toml", "--out", "st", "--track", "noting"]) == 0
    assert told == []


def test_a_sweep_from_python_is_told_of(told):
    base = {"dataset": "digits", "model": "logistic_regression", "num_clients": 3, "rounds": 1}
    results = fx.sweep("st", base, grid={"seed": range(2)}, track=["noting"])
    assert [begun.name[:6] for begun in told[::3]] == ["seed=0", "seed=1"]
    names = [begun.options["member"] for begun in told[::3]]
    accuracies = dict(zip(names, (table["test_accuracy"][0] for table in told[1::3]), strict=True))
    history = results.history
    recorded = dict(zip(history["member"], history["test_accuracy"], strict=True))
    assert accuracies == recorded


def diverged(last: int) -> fx.DivergedError:
    table = {name: column[:last] for name, column in rows(1, 9).items()}
    history = fx.History(table, np.zeros((last, 2), np.int32), None, 0.0, 0.0)
    return fx.DivergedError(last + 1, [], history)


def ending(error: Exception, folder: Path, *tables) -> list:
    """What is told of a run that an exception ends."""
    told: list = []

    def run():
        with Trackers([noting(told)]).following(about(folder)) as take:
            for table in tables:
                take(table)
            raise error

    with pytest.raises(type(error)):
        run()
    return told


@pytest.mark.parametrize("last", [0, 2, 4])
def test_rounds_before_it_diverged_are_told(tmp_path, last):
    told = ending(diverged(last), tmp_path, *[rows(1, 2)][:last])
    assert told[0].first == 1
    assert np.concatenate([t["round"] for t in told[1:-1]]).tolist() == list(range(1, last + 1))
    assert told[-1] == "diverged"


def test_nothing_is_begun_without_rows(tmp_path):
    assert ending(OSError("no folder"), tmp_path) == []
    assert ending(RuntimeError("no more"), tmp_path, rows(1, 2))[-1] == "failed"


def test_a_tracker_that_failed_is_not_asked_again(tmp_path):
    lines: list[str] = []
    trackers = Trackers([failing("rows")], lines.append)
    for _ in range(2):
        with trackers.following(about(tmp_path)) as take:
            take(rows(1, 2))
            take(rows(3, 4))
    assert len(lines) == 1


def test_every_tracker_is_listed_with_its_package():
    assert TRACKERS.keys() == PACKAGES.keys()


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_one_line_before_anything_runs(told, monkeypatch, capsys, name):
    package, module = PACKAGES[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(fx.InputError, match="is not installed"):
        chosen(name)
    Path("study.toml").write_text(STUDY)
    for command in (["run"], ["sweep", "study.toml"]):
        assert main([*command, "--track", f"noting,{name}"]) == 2
        line = capsys.readouterr().err
        assert line == (
            f"error: track: {package} is not installed; "
            f"pip install 'fedjax-ecgr[{name}]' installs it\n"
        )
    assert told == []
    assert not Path("runs").exists()


def test_names(told, capsys):
    assert main(["run", "--track", "tensorbord"]) == 2
    assert "track: unknown 'tensorbord', did you mean 'tensorboard'?" in capsys.readouterr().err
    for none in (None, "", "none", ()):
        follow_none = chosen(none)
        with follow_none.following(about(Path())) as take:
            take(rows(1, 2))
    with chosen(" noting ,noting").following(about(Path())) as take:
        take(rows(1, 2))
    assert len(told) == 3
    told.clear()
    follow(noting(told), about(Path(), first=9), rows(3, 4))
    assert told[0].first == 3
