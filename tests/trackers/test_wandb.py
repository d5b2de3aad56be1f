"""Weights & Biases offline, read back from the files that `wandb sync` sends."""

import json
import struct
from pathlib import Path

import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.trackers import wandb
from tests.trackers.runs import about, follow, measured, rows

pytest.importorskip("wandb", reason="wandb is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")
BLOCK, WHOLE, LAST = 32768, 1, 4


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    import wandb as package

    monkeypatch.setenv("WANDB_MODE", "offline")
    package.teardown()  # what it has read of the environment
    yield
    package.teardown()


def records(path: Path) -> list:
    """A file's records, in LevelDB's log format: in blocks, that a record may go across."""
    import wandb as package
    from wandb.proto.wandb_internal_pb2 import Record

    package.teardown()  # waits until all is written
    content, found, record = path.read_bytes(), [], b""
    assert content.startswith(b":W&B")
    at = 7
    while at < len(content):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            found.append(Record.FromString(record))
            record = b""
    return found


def columns(found: list) -> dict[str, list[tuple[int, float]]]:
    told: dict[str, list[tuple[int, float]]] = {}
    for record in found:
        items = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
        for name, value in items.items():
            if not name.startswith("_"):
                told.setdefault(name, []).append((int(items["_step"]), float(value)))
    return told


def test_an_offline_run_holds_rows_options_and_status(tmp_path):
    tables = rows(1, 2), rows(3, 4)
    follow(wandb(), about(tmp_path), *tables)
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    found = records(path)
    assert columns(found) == measured(*tables)
    run = next(record.run for record in found if record.HasField("run"))
    assert (run.display_name, run.project, run.run_group) == ("one", "fedjax-ecgr", "")
    options = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert options["algorithm.learning_rate"] == 0.1
    assert options["model.hidden"] == [8, 4]
    assert (tmp_path / "wandb" / "id").read_text() == run.run_id


def test_members_are_grouped_under_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    for name in ("seed=0", "seed=1"):
        follow(wandb(), about(tmp_path, group="st", name=name), rows(1, 2))
    told = set()
    for path in (tmp_path / "wandb").glob("offline-run-*/*.wandb"):
        run = next(record.run for record in records(path) if record.HasField("run"))
        told.add((run.display_name, run.project, run.run_group))
    assert told == {("seed=0", "mine", "st"), ("seed=1", "mine", "st")}


def test_a_run_that_goes_on_is_the_same_run(tmp_path):
    follow(wandb(), about(tmp_path), rows(1, 2))
    follow(wandb(), about(tmp_path), rows(3, 4))
    paths = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert len({path.name for path in paths}) == 1


def test_nobody_logged_in_is_one_line(monkeypatch, tmp_path):
    import wandb as package

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    package.teardown()
    with pytest.raises(fx.InputError, match=r"^wandb: .*WANDB_MODE=offline needs no account"):
        wandb()
