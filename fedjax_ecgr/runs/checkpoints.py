"""Where a run or a sweep stood, saved now and then so that it can go on from there.

A checkpoint is a pytree of arrays, saved by Orbax beside the run while that goes on, under a name
that appears as a whole or not at all. The one before it goes when the next is there.
"""

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.types import PyTree

SECONDS = 30.0
"""What a process that is killed loses at most, but for the block of rounds at hand."""


_LOGGER = logging.getLogger("absl")  # of Orbax


def _is_not_orbax(record: logging.LogRecord) -> bool:
    """Whether something else is told: what Orbax cannot do is raised, or done in another way."""
    return "orbax" not in Path(record.pathname).parts


class Checkpoints:
    """The checkpoints in a folder, several for each of some names; to be closed at the end."""

    def __init__(self, folder: Path, seconds: float = SECONDS):
        """Takes a folder, which need not be there yet.

        Args:
          folder: where checkpoints are.
          seconds: from one to the next.
        """
        self.folder, self.seconds = folder.absolute(), seconds
        self._saved = time.monotonic()
        self._saver: Any = None
        _LOGGER.addFilter(_is_not_orbax)

    @property
    def due(self) -> bool:
        """Whether the last one is long ago."""
        return time.monotonic() - self._saved >= self.seconds

    def save(self, name: str, done: int, leaves: PyTree) -> None:
        """Saves where `name` stood after `done` rounds; returns when arrays are copied.

        Args:
          name: of what is saved.
          done: rounds done.
          leaves: a pytree of arrays; those without any entry are left out.

        Raises:
          OSError: if this or the last one cannot be written.
        """
        self.wait()
        if self._saver is None:
            self._saver = checkpointer()
        path = self.folder / f"{name}-{done:09d}"
        held = jax.tree.map(np.array, jax.device_get(jax.tree.leaves(leaves)))
        named = {f"{i:05d}": leaf for i, leaf in enumerate(held) if leaf.size}
        with _named(path):
            if path.exists():  # what could not be read
                shutil.rmtree(path)
            self._saver.save(path, named)
        for older in self._all(name)[:-1]:
            shutil.rmtree(older)
        self._saved = time.monotonic()

    def wait(self) -> None:
        """Waits until what was saved is there.

        Raises:
          OSError: if it cannot be written.
        """
        if self._saver is not None:
            with _named(self.folder):
                self._saver.wait_until_finished()

    def latest(self, name: str, like: PyTree) -> tuple[int, PyTree] | None:
        """Returns the rounds done and the arrays of the last checkpoint that can be read, if any.

        Args:
          name: of what was saved.
          like: a pytree of the same structure and shapes, of arrays or shapes.
        """
        wanted, tree = jax.tree.flatten(like)
        for path in reversed(self._all(name)):
            found = _read(path, wanted)
            if found is not None:
                return int(path.name.rpartition("-")[2]), jax.tree.unflatten(tree, found)
        return None

    def has(self, name: str) -> bool:
        """Whether there is a checkpoint of a name."""
        return bool(self._all(name))

    def drop(self, name: str) -> None:
        """Removes all checkpoints of a name."""
        self.wait()
        for path in self._all(name):
            shutil.rmtree(path)

    def clear(self) -> None:
        """Removes all checkpoints, of whatever name."""
        self.wait()
        for path in self._all("*"):
            shutil.rmtree(path)

    def remove_unfinished(self) -> None:
        """Removes what is left of checkpoints of which no more could be saved."""
        for path in self.folder.glob("*-" + "[0-9]" * 9 + ".*"):
            shutil.rmtree(path)

    def close(self) -> None:
        """Waits for what is being saved."""
        try:
            self.wait()
        finally:
            if self._saver is not None:
                self._saver.close()
                self._saver = None
                self.remove_unfinished()
            _LOGGER.removeFilter(_is_not_orbax)

    def _all(self, name: str) -> list[Path]:
        """Returns the whole checkpoints of a name, the last one at the end."""
        found = self.folder.glob(f"{name}-" + "[0-9]" * 9)
        return sorted(path for path in found if path.is_dir())


def checkpointer() -> Any:
    """Returns Orbax's checkpointer.

    It makes folders at once: where it cannot, threads that wait for folders made beside it would
    keep the process for minutes from its end.
    """
    import orbax.checkpoint as ocp  # only who reads or writes waits for the import

    options = ocp.AsyncOptions(create_directories_asynchronously=False)
    return ocp.StandardCheckpointer(async_options=options)


def _read(path: Path, wanted: list[Any]) -> list[np.ndarray] | None:
    """Returns the arrays of a checkpoint; None where it is damaged or of other shapes."""
    try:
        with checkpointer() as saver:
            named = saver.restore(path)
    except Exception:  # whatever is wrong with a file is said in a way of the format's own
        return None
    found = []
    for i, like in enumerate(wanted):
        leaf = named.get(f"{i:05d}")
        if leaf is None and 0 in np.shape(like):
            leaf = np.zeros(np.shape(like), like.dtype)
        if leaf is None or leaf.shape != np.shape(like) or leaf.dtype != like.dtype:
            return None
        found.append(np.asarray(leaf))
    return found


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says of anything that goes wrong with writing where that was."""
    try:
        yield
    except Exception as error:
        full = os.strerror(errno.ENOSPC)
        if full in str(error):  # as Orbax's own errors say, which have no number
            raise OSError(errno.ENOSPC, full, str(path)) from error
        reason = check.reason(error)
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
        raise OSError(number, f"cannot be saved: {reason}", str(path)) from error
