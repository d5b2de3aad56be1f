"""What the programs have in common: JSON lines in and out, and the memory that was used.

A program first says one line about itself, then answers each order it reads:

    {"rounds": n, "shuffle": bool, "cohorts": [[client, …], …] or null}

trains n rounds from the first parameters, with the cohorts given or, for null, with its own, and is
answered by `Answer`'s fields.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What one order came to.

    Attributes:
      seconds: what the rounds took, from the first parameters on the device to the last there.
      losses: mean training loss of each round, or empty where it was not looked at.
      moved: ‖w − w_0‖₂ of the global parameters after the last round.
      statistics: ‖·‖₂ of the global statistics after it; 0 for a model that has none.
      peak_bytes: the most memory used so far: an accelerator's own, else the process's; 0 where
        that says nothing.
      cohorts: who took part in each round, or None from a side that is never asked.
      compile_seconds: what the program's compilation took, apart from `seconds`; 0 without one.
      accuracy: on the test examples after the last round, where the order says "evaluate": true.
    """

    seconds: float
    losses: list[float]
    moved: float
    statistics: float
    peak_bytes: int
    cohorts: list[list[int]] | None = None
    compile_seconds: float = 0.0
    accuracy: float | None = None


def serve(about: Mapping[str, Any], answer: Callable[..., Mapping[str, Any]]) -> None:
    """Says `about`, then answers every order from standard input until it ends."""
    # Libraries print where they like: what they print must not come between the answers.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    print(json.dumps(about), file=lines)
    for order in sys.stdin:
        print(json.dumps(answer(**json.loads(order))), file=lines)


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """Returns the most bytes of memory that this process has held at once."""
    # ru_maxrss would do, but counts what the parent held when it started this process.
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
