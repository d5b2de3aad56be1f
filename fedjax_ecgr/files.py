"""Files and folders that appear as a whole or not at all, and that one process writes."""

import errno
import fcntl
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fedjax_ecgr.check import InputError

LOCK = "lock"


def write(path: Path, content: Callable[[BinaryIO], Any]) -> None:
    """Writes a file as a whole or not at all: under another name first, then renamed.

    Args:
      path: the file.
      content: writes to the open file.

    Raises:
      OSError: if it cannot be written; it names the file.
    """
    temporary = beside(path)
    try:
        with temporary.open("xb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # which names no file, or the other one
            reason = error.strerror or str(error)
            raise OSError(error.errno or errno.EIO, reason, str(path)) from error
        raise


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON that any reader takes: a number that is not finite becomes null.

    Raises:
      OSError: if it cannot be written; it names the file.
    """
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    text = json.dumps(finite, indent=2, allow_nan=False, default=str) + "\n"
    write(path, lambda file: file.write(text.encode()))


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Returns a file's table as Arrow has it, or those of some columns that it has.

    Raises:
      OSError: if it cannot be read.
      pyarrow.ArrowException: if it is damaged.
    """
    import pyarrow.parquet as pq  # only who reads waits for the import

    with path.open("rb") as file:
        # without Arrow's threads: a process that ends soon after sometimes aborts in them
        recorded = pq.ParquetFile(file)
        there = recorded.schema_arrow.names
        wanted = None if columns is None else [name for name in columns if name in there]
        return recorded.read(use_threads=False, columns=wanted)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a hidden folder to be filled, which is then renamed; nothing stays of one that fails.

    Args:
      path: what the folder will be called; a folder that is there by then is not replaced.

    Raises:
      OSError: if the name is taken by the time the folder is filled.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = beside(path)
    hidden.mkdir()
    try:
        yield hidden
        if path.exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        hidden.rename(path)
    except BaseException as error:
        shutil.rmtree(hidden)
        if isinstance(error, OSError) and error.errno == errno.ENOTEMPTY:  # another was faster
            raise FileExistsError(errno.EEXIST, "File exists", str(path)) from None
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes files that a process began to `write` in a folder and was killed before the end."""
    for path in folder.glob(".*." + "[0-9a-f]" * 32):
        path.unlink()


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes off a folder; the lock goes with this process, however that ends.

    Args:
      folder: which is there.
      wait: whether to wait for another process that has it.

    Raises:
      InputError: if another process has it.
    """
    with (folder / LOCK).open("ab+", buffering=0) as file:
        file.seek(0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = file.read().decode(errors="replace").strip() or "another process"
            raise InputError(f"out: {str(folder)!r} is being written by {who}") from None
        with suppress(OSError):  # a full disk: who it is need not be known
            file.truncate()
            file.write(f"process {os.getpid()}\n".encode())
        yield


def beside(path: Path) -> Path:
    """Returns a new hidden name in the same folder, from where a rename is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")
