"""Trackers at work: what one of them cannot do is told in a line, and all else goes on."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fedjax_ecgr.engine import DivergedError
from fedjax_ecgr.engine.run import Table
from fedjax_ecgr.trackers.base import About, Tracker, Tracking


def to_stderr(line: str) -> None:
    """Prints a line to stderr."""
    print(line, file=sys.stderr, flush=True)


class Trackers:
    """Several trackers, or none, that follow one run after another.

    One that fails is left out from then on, of later runs too.

    Args:
      chosen: the trackers.
      tell: takes a line on each that fails.
    """

    def __init__(self, chosen: Sequence[Tracker] = (), tell: Callable[[str], None] = to_stderr):
        self._left = {tracker.name: tracker for tracker in chosen}
        self._open: dict[str, Tracking] = {}
        self._tell = tell

    @contextmanager
    def following(self, about: About) -> Iterator[Callable[[Table], None]]:
        """Gives what takes a run's rows, such as `Progress.table`; how it ends is found out.

        Nothing is written before the first rows come, nor of a run that came to none, unless it
        diverged.
        """
        begun, done, status = False, 0, "failed"

        def rows(table: Table, first: int | None = None) -> None:
            nonlocal begun, done
            if not begun:
                begun = True
                self.begin(about._replace(first=first or int(table["round"][0])))
            self.rows(table)
            done = max([done, *table["round"].tolist()])

        try:
            yield rows
            status = "finished"
        except DivergedError as error:
            status, table = "diverged", error.history.table
            rows({name: column[table["round"] > done] for name, column in table.items()}, done + 1)
            raise
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            if begun:
                self.end(status)

    def begin(self, about: About) -> None:
        """Begins with a run; each tracker is given a folder of its own, `about.folder/<name>`."""

        def one(name: str) -> None:
            own = about._replace(folder=about.folder / name)
            self._open[name] = self._left[name].begin(own)

        self._each(one)

    def rows(self, table: Table) -> None:
        """Tells of the next rounds."""
        self._each(lambda name: self._open[name].rows(table))

    def end(self, status: str) -> None:
        """Tells how the run ended."""
        self._each(lambda name: self._open[name].end(status))
        self._open.clear()

    def _each(self, act: Callable[[str], None]) -> None:
        for name in list(self._left):
            try:
                act(name)
            except Exception as error:  # whatever a package may raise
                del self._left[name]
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._tell(f"{name}: no longer tracks, all else goes on: {reason}")
