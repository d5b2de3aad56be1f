"""How far something is, shown while it goes on: a bar on a terminal, else lines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars

EVERY = 10.0
"""Seconds from one line to the next where nobody watches; where it ended is told in any case."""

Show = Callable[[float, str, str], None]
"""`(done, what, how it goes)`."""


@contextmanager
def live(total: float, what: str = "compiling") -> Iterator[Show]:
    """Gives what shows that `done` of `total` is done.

    Args:
      total: at which it is all done.
      what: is done at first.
    """
    if sys.stdout.isatty():
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TextColumn("{task.fields[status]}"),
            bars.TimeElapsedColumn(),
        )
        with bars.Progress(*columns) as bar:
            task = bar.add_task(what, total=total, status="")
            yield lambda done, what, how: bar.update(
                task, completed=done, description=what, status=how
            )
        return
    told, untold = time.monotonic(), ""

    def line(done: float, what: str, how: str) -> None:
        nonlocal told, untold
        untold = f"{what}  {how}".rstrip()
        if time.monotonic() - told >= EVERY:
            print(untold, flush=True)
            told, untold = time.monotonic(), ""

    try:
        yield line
    finally:
        if untold:
            print(untold, flush=True)


def duration(seconds: float) -> str:
    """Returns a time as text.

    Example:
      >>> duration(7.4), duration(200), duration(7300)
      ('7 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
