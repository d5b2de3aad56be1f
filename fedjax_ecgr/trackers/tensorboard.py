"""TensorBoard: event files, scalars and the table of hyperparameters.

    <run>/tensorboard/                of a run
    <sweep>/tensorboard/<member>/     of each member of a sweep

`tensorboard --logdir runs` shows them. A run that goes on writes another file, which takes the
place of the rounds that it computes again. Numbers are kept in 32 bits, as TensorBoard does.
"""

import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fedjax_ecgr.engine.run import COLUMNS, Table
from fedjax_ecgr.kinds import write
from fedjax_ecgr.trackers.base import About, Tracker, Tracking, not_installed, points

_FLUSH_SECONDS = 1.0
_LONGEST = 200  # characters of a folder's name


def tensorboard() -> Tracker:
    """Returns event files for TensorBoard.

    Raises:
      InputError: if tensorboardX is not installed.
    """
    try:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import Summary, hparams
    except ImportError:
        raise not_installed("tensorboard", "tensorboardX") from None

    def begin(about: About) -> Tracking:
        folder = about.folder
        if about.group:
            folder /= re.sub(r"[^\w.,=+-]+", "-", about.name)[-_LONGEST:]
        folder.mkdir(parents=True, exist_ok=True)
        goes_on = any(folder.glob("events.*"))
        # microseconds, as TensorBoard reads files in the order of their names
        called = f"events.out.tfevents.{time.time():.6f}.{platform.node()}"
        # not tensorboardX's SummaryWriter: its thread would die unheard where a disk is full
        file = RecordWriter(str(folder / called))
        flushed = time.monotonic()

        def add(step: int, **what: Any) -> None:
            file.write(Event(wall_time=time.time(), step=step, **what).SerializeToString())

        with _closed_on_failure(file):
            add(0, file_version="brain.Event:2")
            if goes_on:
                add(about.first, session_log=SessionLog(status=SessionLog.START))
            values = {n: write(v) if isinstance(v, tuple) else v for n, v in about.options.items()}
            experiment, start, _ = hparams(values, dict.fromkeys(COLUMNS[1:]))
            add(0, summary=experiment)
            add(0, summary=start)
            file.flush()

        def rows(table: Table) -> None:
            nonlocal flushed
            with _closed_on_failure(file):
                for number, found in points(table):
                    scalars = [Summary.Value(tag=n, simple_value=v) for n, v in found.items()]
                    add(number, summary=Summary(value=scalars))
                if time.monotonic() - flushed > _FLUSH_SECONDS:
                    file.flush()
                    flushed = time.monotonic()

        def end(status: str) -> None:
            with _closed_on_failure(file):
                add(0, summary=_end(status))
                file.flush()
            file.close()

        return Tracking(rows, end)

    return Tracker("tensorboard", begin)


@contextmanager
def _closed_on_failure(file: Any) -> Iterator[None]:
    """Closes a file that cannot be written: left to itself it would complain once more."""
    try:
        yield
    except OSError:
        with suppress(OSError):
            file.close()
        raise


def _end(status: str) -> Any:
    """Returns what tells the table of hyperparameters how a run ended."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboardX.summary import Summary, SummaryMetadata

    ended = Status.Value("STATUS_SUCCESS" if status == "finished" else "STATUS_FAILURE")
    told = HParamsPluginData(session_end_info=SessionEndInfo(status=ended), version=0)
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=told.SerializeToString())
    metadata = SummaryMetadata(plugin_data=plugin)
    tag = "_hparams_/session_end_info"
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata)])
