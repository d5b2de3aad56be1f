"""A run's rows without a run, and a tracker that notes what it is told."""

from pathlib import Path
from typing import Any

import numpy as np

from fedjax_ecgr.engine.run import COLUMNS, Table
from fedjax_ecgr.trackers import About, Tracker, Trackers, Tracking


def rows(first: int, last: int, seed: int = 0) -> Table:
    """Rounds in which only the last one was evaluated; equal for equal rounds, like a run's."""
    rounds = np.arange(first, last + 1)
    table = {
        name: np.random.default_rng(seed + i).random(100, np.float32).astype(np.float64)[rounds]
        for i, name in enumerate(COLUMNS)
    }
    for name in COLUMNS[8:]:
        table[name][:-1] = np.nan
    return table | {"round": rounds, "bytes_up": 1000 * rounds}


def measured(*tables: Table) -> dict[str, list[tuple[int, float]]]:
    """What should be found of some rows again: for each column its rounds and values."""
    found: dict[str, list[tuple[int, float]]] = {}
    for table in tables:
        for name in COLUMNS[1:]:
            pairs = zip(table["round"].tolist(), table[name].tolist(), strict=True)
            found.setdefault(name, []).extend(pair for pair in pairs if not np.isnan(pair[1]))
    return found


def about(folder: Path, **changed: Any) -> About:
    """What a tracker is told of that run."""
    options = {"algorithm": "fedavg", "rounds": 4, "shuffle": True, "chunk_size": None}
    options |= {"algorithm.learning_rate": 0.1, "model.hidden": (8, 4)}
    return About("one", folder, options)._replace(**changed)


def follow(tracker: Tracker, run: About, *tables: Table) -> None:
    """Follows a run of these rows; a tracker that fails fails the test."""
    failed: list[str] = []
    with Trackers([tracker], failed.append).following(run) as take:
        for table in tables:
            take(table)
    assert not failed


def noting(told: list[Any], name: str = "noting") -> Tracker:
    """A tracker that appends all it is told to a list."""

    def begin(run: About) -> Tracking:
        told.append(run)
        return Tracking(told.append, told.append)

    return Tracker(name, begin)


def failing(when: str, name: str = "failing") -> Tracker:
    """A tracker that fails as it begins, at the first rows, or at the end."""

    def fail(at: str) -> None:
        if at == when:
            raise OSError(28, "No space\nleft on device")

    def begin(run: About) -> Tracking:
        fail("begin")
        return Tracking(lambda table: fail("rows"), lambda status: fail("end"))

    return Tracker(name, begin)
