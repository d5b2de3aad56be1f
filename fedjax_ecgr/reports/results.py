"""What a study recorded, as a value, and reading it from the folder of a study.

members.parquet   one row a member; the axes are a JSON list in its schema's metadata
history.parquet   one row a round of a member: "member" and the columns of `History.table`
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine.run import COLUMNS
from fedjax_ecgr.files import read_parquet
from fedjax_ecgr.kinds import write

MEMBER, STATUS, DIVERGED_IN = "member", "status", "diverged_in_round"
FINISHED, DIVERGED = "finished", "diverged"
_ABOUT = (MEMBER, STATUS, DIVERGED_IN)  # what no option of a configuration is called
_SPENT = ("compile_seconds", "run_seconds")  # likewise, where a folder has it
_LATER = ("validation_loss", "validation_accuracy")  # columns that older records lack

Rows = dict[str, np.ndarray]


class Results(NamedTuple):
    """What a study recorded.

    Attributes:
      axes: the options that vary, in the study's order, by full name: "algorithm",
        "regulator.beta", "partition.alpha", "seed", …
      members: columns of one row a member: "member" (text that names its configuration), one for
        each option of the configuration by full name (None where a member has no such option),
        "status" ("finished", "diverged", "running", …) and "diverged_in_round" (NaN where not).
      history: columns of one row a member and round, a member's rounds in order: "member" and
        `COLUMNS`; NaN where `History.table` has it.
    """

    axes: tuple[str, ...]
    members: Rows
    history: Rows

    @property
    def options(self) -> tuple[str, ...]:
        """The options that members have, by full name."""
        return tuple(name for name in self.members if name not in (*_ABOUT, *_SPENT))


def read(folder: str | Path) -> Results:
    """Reads the folder of a study.

    Raises:
      InputError: if it is none, or is damaged.
    """
    folder = Path(folder)
    members, metadata = _table(folder, "members.parquet", None)
    axes = _axes(folder, metadata, members)
    history, _ = _table(folder, "history.parquet", (MEMBER, *COLUMNS))
    columns = {name: _values(members[name]) for name in members.column_names}
    columns[DIVERGED_IN] = _numbers(folder, members, DIVERGED_IN)
    absent = np.full(history.num_rows, np.nan)
    rows = {
        name: _numbers(folder, history, name) if name in history.column_names else absent
        for name in COLUMNS
    }
    rows = {MEMBER: _values(history[MEMBER]), **rows}
    known = set(columns[MEMBER])
    if len(known) < len(columns[MEMBER]):
        raise InputError(f"{folder}: members.parquet: a member is there twice")
    if not known.issuperset(rows[MEMBER]):
        raise InputError(f"{folder}: history.parquet: it has rounds of a member that is not known")
    order = np.lexsort((rows["round"], rows[MEMBER].astype(str)))
    return Results(axes, columns, {name: values[order] for name, values in rows.items()})


def merge(parts: Sequence[Results]) -> Results:
    """Returns the results of several folders as one; a member that is in several counts once.

    Of a member that had not ended in one folder and got further in another, the longer history
    counts. Options in which members of different folders differ become axes.

    Args:
      parts: at least one; their axes need not be the same.

    Raises:
      InputError: if a member's histories contradict each other.
    """
    chosen: dict[str, tuple[dict[str, Any], Rows]] = {}
    for part in parts:
        histories = by_member(part)
        for row in range(len(part.members[MEMBER])):
            member = {name: column[row] for name, column in part.members.items()}
            name = member[MEMBER]
            new = (member, histories[name])
            chosen[name] = _further(chosen[name], new) if name in chosen else new
    names = dict.fromkeys(name for part in parts for name in part.members)
    members = {
        name: _objects([member.get(name) for member, _ in chosen.values()]) for name in names
    }
    members[DIVERGED_IN] = members[DIVERGED_IN].astype(np.float64)
    rows = [history for _, history in chosen.values()]
    history = {name: np.concatenate([r[name] for r in rows]) for name in (MEMBER, *COLUMNS)}
    axes = tuple(dict.fromkeys(axis for part in parts for axis in part.axes))
    together = Results(axes, members, history)
    return together._replace(axes=axes + _untold(together))


def only(results: Results, rows: np.ndarray) -> Results:
    """Returns the results of some members alone.

    Args:
      results: what was recorded.
      rows: which of `results.members`, by number or as [members] bool.
    """
    members = {name: column[rows] for name, column in results.members.items()}
    there = np.isin(results.history[MEMBER].astype(str), members[MEMBER].astype(str))
    history = {name: column[there] for name, column in results.history.items()}
    return results._replace(members=members, history=history)


def having(results: Results, wanted: Mapping[str, Sequence[str]]) -> Results:
    """Returns the results of the members that have one of some values in each of some options.

    Args:
      results: what was recorded.
      wanted: values, as text, by the option's full name: {"algorithm.learning_rate": ["0.01"]}.

    Raises:
      InputError: if members have no such option, or none has such a value of it, or none has what
        is wanted of all options.
    """
    kept = np.ones(len(results.members[MEMBER]), bool)
    for option, texts in wanted.items():
        if option not in results.options:
            near = check.nearest(option, results.options)
            allowed = ", ".join(results.axes)
            raise InputError(f"only: {option!r} is no option of members{near} (axes: {allowed})")
        column = results.members[option]
        for text in texts:
            check_there("only", option, text, column, "member")
        kept &= [any(is_text(value, text) for text in texts) for value in column]
    if not kept.any() and len(kept):
        raise InputError("only: these values are not allowed together, no member has them all")
    return only(results, kept)


def check_there(
    field: str, axis: str, text: str, values: Sequence[Any] | np.ndarray, what: str
) -> None:
    """Raises `InputError` unless a text says one of the values; `what` is whose they are."""
    if not any(is_text(value, text) for value in values):
        allowed = ", ".join(map(write, dict.fromkeys(values)))
        raise InputError(
            f"{field}: {axis}={text} is not allowed, no {what} has it (values: {allowed})"
        )


def is_text(value: Any, text: str) -> bool:
    """Whether a value is what a text on the command line says."""
    if write(value) == text:
        return True
    try:
        return isinstance(value, float) and float(text) == value
    except ValueError:
        return False


def by_member(results: Results) -> dict[str, Rows]:
    """Returns the rounds of each member, those that have none among them."""
    names = results.history[MEMBER]
    at: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        at[name].append(row)
    return {
        member: {name: column[at[member]] for name, column in results.history.items()}
        for member in results.members[MEMBER]
    }


def _further(old: tuple[dict[str, Any], Rows], new: tuple[dict[str, Any], Rows]) -> Any:
    """Returns that of a member's two records that tells more."""
    shorter, longer = sorted((old, new), key=lambda record: len(record[1]["round"]))
    rounds = len(shorter[1]["round"])
    agree = all(
        np.array_equal(shorter[1][name], longer[1][name][:rounds], equal_nan=True)
        for name in COLUMNS
    )
    ended = shorter[0][STATUS] in (FINISHED, DIVERGED)
    if not agree or (ended and rounds < len(longer[1]["round"])):
        raise InputError(
            f"folder: the histories of member {old[0][MEMBER]} differ from one folder to another, "
            "they must be the same"
        )
    return shorter if ended else longer


def _untold(results: Results) -> tuple[str, ...]:
    """Returns options in which members differ that all axes say are the same."""
    alike: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row in range(len(results.members[MEMBER])):
        alike[tuple(results.members[axis][row] for axis in results.axes)].append(row)
    return tuple(
        name
        for name in results.options
        if name not in results.axes
        and any(len({results.members[name][row] for row in rows}) > 1 for rows in alike.values())
    )


def _table(folder: Path, name: str, wanted: Sequence[str] | None) -> tuple[Any, dict[bytes, bytes]]:
    """Returns an Arrow table, and the metadata of its schema."""
    import pyarrow as pa  # only who reads waits for the import

    try:
        table = read_parquet(folder / name, wanted)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"folder: {str(folder)!r} is not allowed, it must be a recorded study: it has no {name}"
        ) from None
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = check.reason(error)
        raise InputError(f"{folder}: {name}: cannot be read as Parquet: {reason}") from None
    for column in wanted or _ABOUT:
        if column not in (*table.column_names, *_LATER):
            raise InputError(f"{folder}: {name}: the column {column!r} is missing")
    return table, table.schema.metadata or {}


def _axes(folder: Path, metadata: dict[bytes, bytes], members: Any) -> tuple[str, ...]:
    try:
        axes = json.loads(metadata.get(b"axes", b""))
    except ValueError:
        axes = None
    if not isinstance(axes, list) or not set(map(str, axes)) <= set(members.column_names):
        raise InputError(
            f"{folder}: members.parquet: its metadata must have axes, a list of its columns as JSON"
        )
    return tuple(map(str, axes))


def _numbers(folder: Path, table: Any, name: str) -> np.ndarray:
    """Returns a column of numbers as float64; NaN where it has none."""
    try:
        return np.asarray(table[name].to_numpy(), np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{folder}: the column {name!r} must hold numbers") from None


def _values(column: Any) -> np.ndarray:
    """Returns a column's plain values, None where it has none; a sequence as a tuple."""
    return _objects(column.to_pylist())


def _objects(values: Sequence[Any]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = [_hashable(value) for value in values]
    return column


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
