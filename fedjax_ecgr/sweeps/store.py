"""A sweep recorded in a folder: every member's history, in tables that any reader takes.

    study.json         the options of all members and the axes, as last asked for
    environment.json   versions and hardware of the process that began it
    members.parquet    one row a member: how it ended, and its whole configuration
    history.parquet    one row a member and round: the columns of `History.table`, `cohort`, and the
                       member's whole configuration
    parts/             what each wave of members came to, as it came to its end
    checkpoints/       where waves under way stood
    shares/            the same of processes that run a share each in this folder, while they do

Parts are only ever added, each as a whole; the tables are made of them, again while a sweep runs
and whenever it ends or pauses. So a member that ended is recorded, whatever happens, and never run
again: members are known by what they compute (`study.identity`), not by the study's name or order.
"""

import json
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine import Outcome
from fedjax_ecgr.engine.run import COLUMNS
from fedjax_ecgr.files import (
    locked,
    read_parquet,
    remove_unfinished,
    whole_folder,
    write,
    write_json,
)
from fedjax_ecgr.kinds import write as as_text
from fedjax_ecgr.runs.config import RunConfig, flat, from_json, from_text, to_json
from fedjax_ecgr.runs.environment import changes, environment
from fedjax_ecgr.sweeps.study import Members, Study, differing

STUDY, PARTS, CHECKPOINTS = "study.json", "parts", "checkpoints"
SHARES = "shares"
MEMBERS, HISTORY = "members.parquet", "history.parquet"
_MEMBERS = b"members"  # in a part's metadata
_BUDGET = 0.01  # of a sweep's time that its tables may take while it runs


class Ended(NamedTuple):
    """How a member ended.

    Attributes:
      config: what it ran.
      status: `finished` or `diverged`.
      diverged_in_round: where it diverged, or None.
      diverged_clients: with whom.
      compile_seconds: what its group's compilation took.
      run_seconds: its share of what its wave took.
    """

    config: RunConfig
    status: str
    diverged_in_round: int | None
    diverged_clients: tuple[int, ...]
    compile_seconds: float
    run_seconds: float


class Store:
    """The folder of a sweep, open for writing."""

    def __init__(self, folder: Path, asked: Members, checkpoints: Path | None = None):
        self.folder, self.asked = folder, asked
        self.checkpoints = folder / CHECKPOINTS if checkpoints is None else checkpoints
        self.ended: dict[str, Ended] = {}
        self._parts: set[Path] = set()
        self._in_tables = 0  # of the parts
        self._made, self._took = -float("inf"), 0.0
        self.read()

    def read(self) -> None:
        """Reads what is recorded by now, by other processes too; of a member what was first."""
        for part in sorted(set((self.folder / PARTS).glob("*.parquet")) - self._parts):
            self.ended = self.ended | {n: e for n, e in _ended(part).items() if n not in self.ended}
            self._parts.add(part)

    def add(self, outcomes: Mapping[str, Outcome]) -> None:
        """Records how some members ended.

        Raises:
          OSError: if it cannot be written; it names the file.
        """
        import pyarrow.parquet as pq

        ended = {name: _end_of(self.asked.configs[name], o) for name, o in outcomes.items()}
        table = _history(outcomes)
        told = {name: _as_json(one) for name, one in ended.items()}
        table = table.replace_schema_metadata({_MEMBERS: json.dumps(told)})
        number = len(list((self.folder / PARTS).iterdir()))
        path = self.folder / PARTS / f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
        write(path, lambda file: pq.write_table(table, file))
        self.ended |= ended
        self._parts.add(path)

    def refresh(self) -> None:
        """Makes the tables anew if a part is new, and if they take little of the time in between.

        Raises:
          OSError: if they cannot be written.
        """
        waited = time.monotonic() - self._made
        if len(self._parts) > self._in_tables and waited * _BUDGET >= self._took:
            self.tables()

    def tables(self) -> None:
        """Makes the tables of all that is recorded, and of what the study still asks for.

        Raises:
          OSError: if they cannot be written.
        """
        import pyarrow.parquet as pq

        began = time.monotonic()
        self.read()
        configs = self.asked.configs | {name: one.config for name, one in self.ended.items()}
        columns = _columns(configs)
        names = list(configs)
        place = {name: i for i, name in enumerate(names)}
        table = _members_table(names, self.ended, columns)
        # what was recorded under another study may differ in more than this one's axes
        axes = list(dict.fromkeys([*self.asked.axes, *differing(list(configs.values()))]))
        table = table.replace_schema_metadata({b"axes": json.dumps(axes)})
        write(self.folder / MEMBERS, lambda file: pq.write_table(table, file))

        def rows(file: Any) -> None:
            writer, there = None, set[str]()
            for part in sorted(self._parts):
                table = _without(there, _read(part))
                there |= set(table["member"].to_pylist())
                whole = _with_columns(table, place, columns)
                if writer is None:
                    writer = pq.ParquetWriter(file, whole.schema)
                writer.write_table(whole.cast(writer.schema))  # some were of another precision
            if writer is not None:
                writer.close()

        if self.ended:
            write(self.folder / HISTORY, rows)
        self._in_tables, self._made = len(self._parts), time.monotonic()
        self._took = self._made - began


@contextmanager
def opened(folder: Path, study: Study, asked: Members) -> Iterator[tuple[Store, list[str]]]:
    """Opens a sweep's folder, a new or a recorded one, for this process alone.

    Gives the store, and what is different now from when it was begun, one text each.

    Raises:
      InputError: if something else is there, or another process has it.
    """
    if not folder.exists():
        with whole_folder(folder) as hidden:
            (hidden / PARTS).mkdir()
            (hidden / CHECKPOINTS).mkdir()
            write_json(hidden / "environment.json", environment())
            write_json(hidden / STUDY, _asked(study))
    elif not (folder / STUDY).is_file() or not (folder / PARTS).is_dir():
        raise InputError(f"out: {str(folder)!r} is no sweep's folder, it must be one or a new name")
    with locked(folder):
        remove_unfinished(folder)
        remove_unfinished(folder / PARTS)
        write_json(folder / STUDY, _asked(study))
        yield Store(folder, asked), _changes(folder)


@contextmanager
def joined(folder: Path, asked: Members, name: str) -> Iterator[Store]:
    """Opens a sweep's folder for one of several processes that run a share of its members each.

    Waits until no other process has it open under the same name: one that was given up for dead may
    still be at work.

    Raises:
      InputError: if the folder is not there.
    """
    if not (folder / PARTS).is_dir():
        raise InputError(
            f"out: {str(folder)!r} is not there on {platform.node()!r}, it must be on a file "
            "system that all machines share"
        )
    own = folder / SHARES / name
    own.mkdir(parents=True, exist_ok=True)
    with locked(own, wait=True):
        yield Store(folder, asked, own / CHECKPOINTS)


def _asked(study: Study) -> dict[str, Any]:
    return {
        "base": dict(study.base),
        "axes": [list(map(dict, axis)) for axis in study.axes],
        "configs": [json.loads(to_json(config)) for config in study.configs],
    }


def _changes(folder: Path) -> list[str]:
    try:
        text = (folder / "environment.json").read_text(encoding="utf-8")
        return changes(from_text(text, "environment.json"))
    except (OSError, ValueError):
        return []  # nothing is known of then


def _end_of(config: RunConfig, outcome: Outcome) -> Ended:
    history, diverged = outcome
    return Ended(
        config,
        "finished" if diverged is None else "diverged",
        None if diverged is None else diverged.round,
        () if diverged is None else tuple(diverged.clients),
        history.compile_seconds,
        history.run_seconds,
    )


def _as_json(one: Ended) -> dict[str, Any]:
    return {**one._asdict(), "config": to_json(one.config)}


def _ended(part: Path) -> dict[str, Ended]:
    import pyarrow.parquet as pq

    with _readable(part):
        told = json.loads(pq.read_schema(part).metadata[_MEMBERS])
        return {
            name: Ended(
                **{
                    **one,
                    "config": from_json(one["config"]),
                    "diverged_clients": tuple(one["diverged_clients"]),
                }
            )
            for name, one in told.items()
        }


@contextmanager
def _readable(part: Path) -> Iterator[None]:
    """Says of a part that is damaged which it is."""
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(
            f"out: {str(part)!r} cannot be read as a part of a sweep, without it its members are "
            f"run again: {check.reason(error)}"
        ) from None


def _history(outcomes: Mapping[str, Outcome]) -> Any:
    """Returns the members' rows, one after another, as an Arrow table."""
    import pyarrow as pa

    histories = [outcome.history for outcome in outcomes.values()]
    rounds = [len(history.cohorts) for history in histories]
    names = pa.array(list(outcomes), pa.string()).take(
        pa.array(np.repeat(np.arange(len(rounds)), rounds))
    )
    columns = {
        name: pa.array(np.concatenate([history.table[name] for history in histories]))
        for name in histories[0].table
    }
    cohorts = np.concatenate([history.cohorts for history in histories])
    offsets = np.arange(len(cohorts) + 1, dtype=np.int32) * cohorts.shape[1]
    cohort = pa.ListArray.from_arrays(pa.array(offsets), pa.array(cohorts.reshape(-1)))
    return pa.table({"member": names, **columns, "cohort": cohort})


def _read(part: Path) -> Any:
    import pyarrow as pa

    with _readable(part):
        table = read_parquet(part).replace_schema_metadata(None)
        for name in COLUMNS:  # an older version may have had fewer
            if name not in table.column_names:
                table = table.append_column(name, pa.array(np.full(len(table), np.nan)))
        return table.select(["member", *COLUMNS, "cohort"])


def _without(names: set[str], table: Any) -> Any:
    """Returns the rows of other members than these."""
    import pyarrow as pa

    return table.filter(pa.array([name not in names for name in table["member"].to_pylist()]))


def _columns(configs: Mapping[str, RunConfig]) -> dict[str, Any]:
    """Returns the members' options, a column each, as Arrow arrays; null where there is none."""
    flats = [flat(config) for config in configs.values()]
    names = dict.fromkeys(name for values in flats for name in values)
    return {name: _column([values.get(name) for values in flats]) for name in names}


def _column(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    kinds = {type(value) for value in values} - {type(None)}
    for kind, stored in (({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64())):
        if kinds and kinds <= kind:
            return pa.array(values, stored)
    return pa.array([None if value is None else as_text(value) for value in values], pa.string())


def _members_table(
    names: Sequence[str], ended: Mapping[str, Ended], columns: Mapping[str, Any]
) -> Any:
    import pyarrow as pa

    ends = [ended.get(name) for name in names]
    told = {
        "status": pa.array(["waiting" if e is None else e.status for e in ends], pa.string()),
        "diverged_in_round": pa.array([e and e.diverged_in_round for e in ends], pa.int64()),
        "compile_seconds": pa.array([e and e.compile_seconds for e in ends], pa.float64()),
        "run_seconds": pa.array([e and e.run_seconds for e in ends], pa.float64()),
    }
    return pa.table({"member": pa.array(names, pa.string()), **told, **columns})


def _with_columns(part: Any, place: Mapping[str, int], columns: Mapping[str, Any]) -> Any:
    """Returns a part with each row's configuration."""
    import pyarrow as pa

    rows = pa.array([place[name] for name in part["member"].to_pylist()], pa.int64())
    for name, column in columns.items():
        part = part.append_column(name, column.take(rows))
    return part
