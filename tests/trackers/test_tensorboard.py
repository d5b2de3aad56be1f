"""TensorBoard's event files, read back."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from fedjax_ecgr.trackers import Trackers, tensorboard
from tests.trackers.runs import about, follow, measured, rows

event_pb2 = pytest.importorskip(
    "tensorboardX.proto.event_pb2", reason="tensorboardX is not installed"
)


def events(path: Path) -> list:
    """A file's events: each is its length, a checksum of that, itself, and a checksum."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("Q", content[:8])
        found.append(event_pb2.Event.FromString(content[12 : 12 + length]))
        content = content[12 + length + 4 :]
    return found


def scalars(found: list) -> dict[str, list[tuple[int, float]]]:
    columns: dict[str, list[tuple[int, float]]] = {}
    for event in found:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                columns.setdefault(value.tag, []).append((event.step, value.simple_value))
    return columns


def same(found, tables):
    expected = measured(*tables)
    assert found.keys() == expected.keys()
    for name, pairs in expected.items():
        single = [(number, float(np.float32(value))) for number, value in pairs]
        assert found[name] == single


def test_scalars_stand_at_their_rounds(tmp_path):
    tables = rows(1, 2), rows(3, 4)
    follow(tensorboard(), about(tmp_path), *tables)
    (path,) = (tmp_path / "tensorboard").iterdir()
    same(scalars(events(path)), tables)


def test_what_is_written_can_be_seen_while_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[tensorboard.__module__], "_FLUSH_SECONDS", 0.0)
    with Trackers([tensorboard()]).following(about(tmp_path)) as take:
        take(rows(1, 2))
        (path,) = (tmp_path / "tensorboard").iterdir()
        same(scalars(events(path)), [rows(1, 2)])


def test_members_have_folders_of_their_own(tmp_path):
    follow(tensorboard(), about(tmp_path, group="st", name="a=1,b=x/y 3fa9c1d2"), rows(1, 2))
    follow(tensorboard(), about(tmp_path, group="st", name="z" * 400 + " 3fa9c1d2"), rows(1, 2))
    first, second = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert first == "a=1,b=x-y-3fa9c1d2"
    assert second == "z" * 191 + "-3fa9c1d2"


class Disk(io.RawIOBase):
    """A file on a disk that takes no more from some time on."""

    full = False

    def writable(self):
        return True

    def fileno(self):
        return 0

    def write(self, content):
        if self.full:
            raise OSError(28, "No space left on device")
        return len(content)


@pytest.mark.parametrize("stage", ["begin", "rows", "end"])
def test_a_full_disk_is_told_once(tmp_path, monkeypatch, stage):
    lines: list[str] = []
    disk = Disk()
    file = io.BufferedWriter(disk)
    monkeypatch.setattr(sys.modules[tensorboard.__module__], "_FLUSH_SECONDS", 0.0)
    monkeypatch.setattr("os.fsync", lambda number: None)
    monkeypatch.setattr("tensorboardX.record_writer.open_file", lambda path: file)
    trackers = Trackers([tensorboard()], lines.append)
    disk.full = stage == "begin"
    trackers.begin(about(tmp_path))
    disk.full |= stage == "rows"
    trackers.rows(rows(1, 2))
    disk.full |= stage == "end"
    trackers.end("finished")
    reason = "OSError: [Errno 28] No space left on device"
    assert lines == [f"tensorboard: no longer tracks, all else goes on: {reason}"]
    assert file.closed


def accumulated(folder: Path):
    """What TensorBoard itself makes of a folder."""
    reason = "tensorboard is not installed"
    module = "tensorboard.backend.event_processing.event_accumulator"
    found = pytest.importorskip(module, reason=reason).EventAccumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_a_run_that_went_on_as_one(tmp_path):
    follow(tensorboard(), about(tmp_path), rows(1, 2), rows(3, 6))
    follow(tensorboard(), about(tmp_path), rows(3, 4), rows(5, 8))
    read = accumulated(tmp_path / "tensorboard")
    found = {
        name: [(event.step, event.value) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }
    same(found, [rows(1, 2), rows(3, 4), rows(5, 8)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("finished", [True, False])
def test_tensorboard_finds_the_hyperparameters_and_the_end(tmp_path, finished):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    trackers = Trackers([tensorboard()])
    trackers.begin(about(tmp_path))
    trackers.rows(rows(1, 2))
    trackers.end("finished" if finished else "diverged")
    found = accumulated(tmp_path / "tensorboard").PluginTagToContent("hparams")
    data = {
        tag.split("/")[1]: plugin_data_pb2.HParamsPluginData.FromString(content)
        for tag, content in found.items()
    }
    values = data["session_start_info"].session_start_info.hparams
    assert values["algorithm.learning_rate"].number_value == 0.1
    assert values["algorithm"].string_value == "fedavg"
    assert values["model.hidden"].string_value == "8,4"
    assert values["shuffle"].bool_value is True
    assert "chunk_size" not in values
    metrics = [info.name.tag for info in data["experiment"].experiment.metric_infos]
    assert "test_accuracy" in metrics
    assert "round" not in metrics
    status = data["session_end_info"].session_end_info.status
    assert status == (api_pb2.STATUS_SUCCESS if finished else api_pb2.STATUS_FAILURE)
