"""Timing two sides in turn, and what a record of it must say."""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

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


def environment() -> dict[str, Any]:
    """Returns hardware, versions, date and commit."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "fedjax-ecgr")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def write(rows: list[Row]) -> Path:
    """Writes a record of its own for every run; an older one is never overwritten."""
    record = {
        "environment": environment(),
        "rows": [{**row._asdict(), "ratio": row.ratio} for row in rows],
    }
    stamp = record["environment"]["date"].replace(":", "").replace("+0000", "Z")
    path = RESULTS / f"{stamp}-{record['environment']['backend']}.json"
    RESULTS.mkdir(exist_ok=True)
    with path.open("x") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    return path


def _commit() -> str | None:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return found.stdout.strip() if found.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")
