"""Timing two sides in turn, and what a record of it must say."""

import json
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_ecgr import runs

RESULTS = Path(__file__).parent / "results"


class Row(NamedTuple):
    """One measured comparison.

    Attributes:
      name: what was measured.
      ours: seconds of each repeat on this project's side.
      against: what the other side is.
      theirs: seconds of each repeat on the other side, taken in turn with ours.
      target: what to reach, in words.
      reached: whether the median ratio reaches it.
      compile_seconds: what our side compiled for, not in `ours`.
      details: anything else worth keeping.
    """

    name: str
    ours: list[float]
    against: str
    theirs: list[float]
    target: str
    reached: bool
    compile_seconds: float
    details: Mapping[str, Any]

    @property
    def ratio(self) -> float:
        """Median over repeats of theirs / ours: above 1 where we are faster."""
        return statistics.median(t / o for t, o in zip(self.theirs, self.ours, strict=True))


def in_turn(
    ours: Callable[[], float], theirs: Callable[[], float], repeats: int
) -> tuple[list[float], list[float]]:
    """Times both sides `repeats` times each, one after the other, so that noise hits both."""
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return [o for o, _ in pairs], [t for _, t in pairs]


def write(rows: list[Row]) -> Path:
    """Writes a record of its own for every run; an older one is never overwritten."""
    environment = {**runs.environment(), "load": os.getloadavg()[0]}
    record = {
        "environment": environment,
        "rows": [{**row._asdict(), "ratio": row.ratio} for row in rows],
    }
    stamp = environment["started"].replace(":", "").replace("+0000", "Z")
    path = RESULTS / f"{stamp}-{environment['backend']}.json"
    RESULTS.mkdir(exist_ok=True)
    with path.open("x") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    return path
