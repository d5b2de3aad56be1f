"""What a tracker is: a run's rows, shown elsewhere while it goes on.

A run records itself in its own folder, whatever a tracker does. Trackers are told of it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine.run import Table


class About(NamedTuple):
    """What a tracker is told of a run as it begins.

    Attributes:
      name: what the run is called.
      folder: of the run, or of the sweep that it is a member of; a tracker is given one of its own
        in it, `folder/tensorboard`, which need not exist yet.
      options: the run's hyperparameters, plain values by name, such as `algorithm.learning_rate`.
      group: what the sweep is called that it is a member of; "" for a run on its own.
      first: the first round that rows will be of; above 1 for a run that goes on.
    """

    name: str
    folder: Path
    options: Mapping[str, Any] = {}  # never written to
    group: str = ""
    first: int = 1


class Tracking(NamedTuple):
    """A run that is being tracked.

    Both functions may raise what they like: the run goes on without the tracker then.

    Attributes:
      rows: takes the next rounds, as columns (`History.table`); NaN where nothing was measured.
      end: takes how the run ended, as the last call: `finished`, `diverged`, `interrupted` or
        `failed`.
    """

    rows: Callable[[Table], None]
    end: Callable[[str], None]


class Tracker(NamedTuple):
    """Shows runs elsewhere.

    Attributes:
      name: its name in the listing.
      begin: begins with a run; only one at a time.
    """

    name: str
    begin: Callable[[About], Tracking]


def points(table: Table) -> Iterator[tuple[int, dict[str, float]]]:
    """Gives for each round its number, and what was measured in it, by column.

    Example:
      >>> import numpy as np
      >>> table = {"round": np.array([3, 4]), "drift": np.array([1.0, 2.0])}
      >>> list(points(table | {"test_loss": np.array([np.nan, 0.5])}))
      [(3, {'drift': 1.0}), (4, {'drift': 2.0, 'test_loss': 0.5})]
    """
    columns = {name: column.tolist() for name, column in table.items() if name != "round"}
    for row, number in enumerate(table["round"].tolist()):
        values = {name: float(column[row]) for name, column in columns.items()}
        yield number, {name: value for name, value in values.items() if not math.isnan(value)}


def not_installed(name: str, package: str) -> InputError:
    """Returns what to raise where a tracker's package is missing; the extra is called as it is."""
    return InputError(
        f"track: {package} is not installed; pip install 'fedjax-ecgr[{name}]' installs it"
    )
