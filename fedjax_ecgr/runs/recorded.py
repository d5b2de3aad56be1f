"""What a run's folder holds, as values."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr.runs.config import RunConfig


class Recorded(NamedTuple):
    """A recorded run.

    Attributes:
      folder: where it is.
      config: what it computed.
      environment: where it ran: versions, hardware, time.
      table: one array of [rounds] for each column, as in `History.table`; empty if no round was
        recorded.
      cohorts: [rounds, cohort] int32, who took part.
      summary: `status`, and what `History.summary` says.
    """

    folder: Path
    config: RunConfig
    environment: dict[str, Any]
    table: dict[str, np.ndarray]
    cohorts: np.ndarray
    summary: dict[str, Any]
