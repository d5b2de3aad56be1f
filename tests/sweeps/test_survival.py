"""A sweep that is killed, ended or out of space at any moment, and gone on with: as if never."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.sweeps.tables import assert_same

STUDY = """
model = "logistic_regression"
num-clients = 3
batch-size = 256
rounds = 12
eval-every = 3
[grid]
regulator = ["identity", "ecgr"]
seed = { first = 0, last = 3 }
"""
BLOCKS = 4  # of a wave; there are four waves of two members
UNSAVED = 6  # rounds that a kill may undo: the last block, and one that was being saved

# Saving goes on beside the blocks, so a kill may undo two, one, or none: where it undoes none, the
# last wave ends as the last part appears, and no earlier.
STEPS = [
    ("the folder is whole", "kill", -9),
    ("compiling", "kill", -9),
    ("the third block", "kill", -9),
    ("saving", "kill", -9),
    ("the first block", "term", 143),
    ("the first block", "interrupt", 130),
    ("an older checkpoint is half gone", "kill", -9),
    ("writing a checkpoint", "full", 1),
    ("a part appears", "kill", -9),
    ("a part appears", "full", 1),
    ("a part is there", "kill", -9),
    ("compiling", "term", 143),
    ("checkpoints of a part are half gone", "kill", -9),
    ("the third block", "kill", -9),
    ("a part appears", "term", 143),
    ("members.parquet", "kill", -9),
    ("history.parquet", "kill", -9),
    ("never", None, 0),
]
WAITED_FOR = ("term", "interrupt")
SAID = {143: "ended by SIGTERM", 130: "interrupted"}


@pytest.fixture
def command(tmp_path):
    """Runs the command line up to a moment: `(moment, event, *arguments) -> (status, said)`."""
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sweeps.ending", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def run(*line):
            process.stdin.write(json.dumps(line) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def blocks(tmp_path):
    """The blocks done so far: a wave's first member, and rounds done."""
    path = tmp_path / "blocks"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def recorded(folder):
    """The members that are recorded, part by part."""
    return [
        name
        for part in sorted((folder / "parts").glob("*.parquet"))
        for name in dict.fromkeys(pq.read_table(part)["member"].to_pylist())
    ]


def test_a_sweep_that_ends_anywhere_goes_on_as_if_it_had_not(command, tmp_path):
    study, whole, folder = tmp_path / "study.toml", tmp_path / "whole", tmp_path / "sweep"
    study.write_text(STUDY)
    assert command("never", None, "sweep", str(study), "--out", str(whole))[0] == 0
    assert len(blocks(tmp_path)) == len(set(blocks(tmp_path))) == 4 * BLOCKS
    (tmp_path / "blocks").unlink()

    before, ended = [], None
    for moment, event, expected in STEPS:
        done = blocks(tmp_path)
        status, said = command(moment, event, "sweep", str(study), "--out", str(folder))
        assert status == expected, (moment, event, said)
        if status in SAID:
            line = said.splitlines()[-1]
            assert line.startswith(f"error: {SAID[status]} after "), line
            assert line.endswith(f" members; the same command goes on with {folder}"), line
        if event == "full":
            assert said.count("error: ") == 1
            path = said.rpartition("error: ")[2].partition(": ")[0]
            place = "checkpoints" if moment == "writing a checkpoint" else "parts"
            assert Path(path).parent == folder / place
            assert "No space left on device" in said
        if folder.exists():
            names = recorded(folder)
            assert names[: len(before)] == before, moment  # nothing is lost
            assert len(set(names)) == len(names), moment  # nor there twice
            before = names
        again = blocks(tmp_path)[len(done) :]
        if done and again:
            wave, last = done[-1]
            assert again[0] > (wave, last - (0 if ended in WAITED_FOR else UNSAVED)), moment
        if "block" in moment and event in WAITED_FOR:
            assert len(again) == 1, moment
        ended = event
    assert len(before) == 8
    for table in ("members.parquet", "history.parquet"):
        assert_same(folder / table, whole / table)
    assert os.listdir(folder / "checkpoints") == []
    assert sorted(os.listdir(folder)) == sorted(os.listdir(whole))
