"""How much of the cores other processes took while something was timed.

It matters more than one would think: threads that wait for each other by spinning, as PyTorch's do,
become tens of times slower where they lose a core now and then, and a comparison made meanwhile
says nothing.
"""

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

TOLERABLE = 0.05
"""A row in which others took a larger share than this is not to be trusted."""


class Reading(NamedTuple):
    """Seconds so far.

    Attributes:
      wall: of the clock.
      busy: that the cores this process may use were not idle, summed over them.
      own: of them for this process and its descendants.
    """

    wall: float
    busy: float
    own: float


def reading() -> Reading | None:
    """Returns what the system has counted so far, or None where it cannot be asked."""
    if not Path("/proc/stat").exists():
        return None
    tick = os.sysconf("SC_CLK_TCK")
    return Reading(time.perf_counter(), _busy() / tick, _own() / tick)


def others_share(before: Reading | None, after: Reading | None) -> float | None:
    """Returns the share of the cores' time between two readings that others had, or None."""
    if before is None or after is None:
        return None
    cores = len(os.sched_getaffinity(0))
    foreign = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, foreign / ((after.wall - before.wall) * cores))


def _busy() -> int:
    """Returns ticks of all states but idle and waiting for a disk; guests' are in users'."""
    usable = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return sum(
        sum(map(int, fields[1:4])) + sum(map(int, fields[6:9]))
        for fields in lines
        if fields[0] in usable
    )


def _own() -> int:
    """Returns ticks of this process and its descendants, those that ended among them."""
    ticks: dict[int, int] = {}
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # behind the name, which may hold anything: state, parent, …, user and system time,
            # and those of children that ended
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        pid = int(stat.parent.name)
        children[int(fields[1])].append(pid)
        ticks[pid] = sum(map(int, fields[11:15]))
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        total += ticks.get(pid, 0)
        waiting += children[pid]
    return total
