"""`fedjax-ecgr sweep`: what it refuses, foretells, shows and leaves to be read."""

import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from fedjax_ecgr import devices
from fedjax_ecgr import live as lively
from fedjax_ecgr.cli import main

conduct = import_module("fedjax_ecgr.sweeps.conduct")  # which a function of its name hides

STUDY = """
model = "logistic_regression"
num-clients = 3
rounds = 2
batch-size = 64
[grid]
regulator = ["identity", "ecgr"]
seed = [0, 1]
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nothing_compiles(monkeypatch):
    def compile_group(*arguments):
        raise AssertionError("something is compiled")

    monkeypatch.setattr(conduct, "compile_group", compile_group)


def refused(capsys, *arguments) -> str:
    """Asserts that a study is refused in one line and leaves nothing; returns the line."""
    before = sorted(os.listdir())
    assert main(["sweep", "study.toml", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert sorted(os.listdir()) == before
    return line.removeprefix("error: ").rstrip("\n")


MILLION = "seed = { first = 0, last = 999 }\npartition-seed = { first = 0, last = 999 }"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("roundz = 3", "roundz: no such option, did you mean 'rounds'?"),
        ("[grid]\nbetta = [1]", "betta: no such option, did you mean 'beta'?"),
        ("[gird]\nbeta = [1]", "gird.beta: no such option"),
        ('rounds = "many"', "rounds: 'many' is not allowed, it must be a whole number"),
        ("rounds = 1979-05-27", "rounds: datetime.date(1979, 5, 27) is not allowed, it must be"),
        ("shuffle = 1", "shuffle: 1 is not allowed, it must be true or false"),
        ('[grid]\nseed = [0, "x"]', "seed: 'x' is not allowed, it must be a whole number"),
        ("[grid]\nseed = []", "grid: seed: an empty axis is not allowed"),
        ("[grid]\nseed = 3", "grid: seed: 3 is not allowed, it must be a list of values"),
        ("zip = []", "zip: an empty axis is not allowed"),
        ("list = []", "list: an empty axis is not allowed"),
        (
            "[grid]\nseed = [0]\n[zip]\nseed = [1]\nrounds = [2]",
            "zip 0: seed: not allowed, it is in grid already",
        ),
        ("seed = 1\n[grid]\nseed = [0]", "grid: seed: not allowed, it is in the options of all"),
        (
            "[grid]\nlearning-rate = [1]\nalgorithm.learning-rate = [2]",
            "learning-rate: 1 is not allowed beside --algorithm.learning-rate",
        ),
        ("seed = 1\nseed = 2", "not TOML: "),
        ("seed = ", "not TOML: "),
        ("seed = " + "1" * 5000, "not TOML: Exceeds the limit"),
        ("seed = " + "[" * 100_000, "not TOML: "),
        (f"[grid]\n{MILLION}", "1,000,000 members are not run without --yes"),
        (
            "[grid]\nseed = { first = 0, last = 999_999 }",
            "1,000,000 members are not run without --yes",
        ),
        ("[grid]\nseed = { first = 0, last = 999_999_999_999 }", "grid: seed: 1,000,000,000,000 v"),
        # what a factory or the engine would not take, of the member by its axes
        (
            '[grid]\nregulator = ["ecgr"]\nbeta = [0.5, 1.5]',
            "beta: 1.5 is not allowed, it must be in [0, 1] (of the member regulator.beta=1.5)",
        ),
        ("learning-rate = nan", "learning_rate: nan is not allowed"),
        ("learning-rate = inf", "learning_rate: inf is not allowed"),
        (
            "num-clients = 3\n[grid]\ncohort-size = [3, 4]",
            "cohort_size: 4 is not allowed, it must be a whole number from 1 to 3 (the number of "
            "clients) (of the member cohort_size=4)",
        ),
        (
            '[grid]\nsystem = ["heterogeneous"]\ndeadline = [0.001, 100.0]\nseed = [3, 4]',
            "(of the member system.deadline=0.001, seed=3)",
        ),
        ("rounds = 0", "rounds: 0 is not allowed"),
        ('algorithm = "ditto"', "client_test_fraction: None is not allowed with ditto"),
    ],
)
def test_a_bad_study_is_one_line_that_names_file_and_key(capsys, nothing_compiles, text, said):
    Path("study.toml").write_text(text)
    began = time.process_time()
    line = refused(capsys)
    assert time.process_time() - began < 20  # and a million members take longer than that
    assert line.startswith("study.toml: ")
    assert said in line


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), (b"\xff\xfe", "cannot be read: not text")],
)
def test_a_file_that_cannot_be_read_is_one_line(capsys, content, said):
    if content is not None:
        Path("study.toml").write_bytes(content)
    assert refused(capsys).startswith(f"study.toml: {said}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--members-at-once", "0"], "members_at_once: 0 is not allowed"),
        (["--num-devices", "99"], "num_devices: 99 is not allowed"),
        (["--members", "3"], "No such option"),
    ],
)
def test_a_bad_option_is_one_line(capsys, nothing_compiles, options, said):
    Path("study.toml").write_text(STUDY)
    assert said in refused(capsys, *options)


def test_a_folder_that_is_no_sweep_s_is_left_as_it_is(capsys, nothing_compiles):
    Path("study.toml").write_text(STUDY)
    Path("mine").mkdir()
    Path("mine/parts").mkdir()
    for out in ("mine", "study.toml"):
        line = refused(capsys, "--out", out)
        assert line == f"out: '{out}' is no sweep's folder, it must be one or a new name"
    assert os.listdir("mine") == ["parts"]


def test_a_study_is_foretold_run_and_said_to_be_recorded(capsys, monkeypatch):
    Path("study.toml").write_text(STUDY)
    assert main(["sweep", "study.toml", "--dry-run"]) == 0
    foretold = capsys.readouterr().out.splitlines()
    assert foretold[0] == "4 members in 2 group(s), which differ in regulator, seed"
    for number, method in enumerate(("fedavg", "fedavg + ecgr"), start=1):
        assert foretold[number].startswith(
            f"group {number}: 2 members of 2 rounds of {method}; "
            "one member at a time on each of 2 × 2 devices, 2 in a wave; compiled in "
        )
        assert foretold[number].endswith(" on each device")
        assert float(foretold[number].split()[-5]) > 0
        assert foretold[number].split()[-4] == "GiB"
    assert os.listdir() == ["study.toml"]

    Path("study.toml").write_text(STUDY.replace(', "ecgr"', ""))
    ticks = iter(range(0, 10_000, 6))  # seconds, each time somebody looks
    monkeypatch.setattr(lively, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    assert main(["sweep", "study.toml"]) == 0
    *lines, members, folder = capsys.readouterr().out.splitlines()
    assert members.startswith("2 members: compiled in ")
    assert folder == "sweep folder: runs/study"
    assert lines
    assert all(line.startswith("group 1/1, ") for line in lines)
    assert any("rounds/s" in line for line in lines)

    monkeypatch.setattr(conduct, "compile_group", None)  # it would fail
    before = {path: path.read_bytes() for path in Path("runs/study/parts").iterdir()}
    assert main(["sweep", "study.toml", "--out", "runs/study"]) == 0
    said = "all members are recorded already\nsweep folder: runs/study\n"
    assert capsys.readouterr().out == said
    assert {path: path.read_bytes() for path in Path("runs/study/parts").iterdir()} == before
    assert pq.read_table("runs/study/members.parquet")["status"].to_pylist() == ["finished"] * 2


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
    Path("study.toml").write_text(STUDY)
    done = subprocess.run(
        [sys.executable, "-m", "fedjax_ecgr", "sweep", "study.toml"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "JAX_PLATFORMS": "nothing",
        },
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: JAX_PLATFORMS: 'nothing' is not allowed here: ")
    assert done.stderr.count("\n") == 1
    assert os.listdir() == ["study.toml"]


@pytest.mark.parametrize(("chosen", "asked"), [(4, []), (-1, [("jax_num_cpu_devices", 3)])])
def test_each_core_is_a_device_unless_somebody_chose(monkeypatch, chosen, asked):
    seen = []
    config = SimpleNamespace(
        values={"jax_num_cpu_devices": chosen}, update=lambda *given: seen.append(given)
    )
    monkeypatch.setattr(devices, "jax", SimpleNamespace(config=config))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    devices.use_all_cores()
    assert seen == asked


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_the_last(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(lively, "time", clock)
    with lively.live(100) as show:
        for second in range(1, 36):
            clock.now = 100.0 + second
            show(second, f"after {second}", "well")
    said = capsys.readouterr().out.splitlines()
    assert said == ["after 10  well", "after 20  well", "after 30  well", "after 35  well"]


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with lively.live(4) as show:
        show(1, "group 1/2", "slowly")
        show(4, "group 2/2", "well")
    shown = capsys.readouterr().out
    assert "group 2/2" in shown
    assert "well" in shown
    assert "━" * 30 in shown
