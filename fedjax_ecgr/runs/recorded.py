"""What a run's folder holds, as values."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr.check import InputError
from fedjax_ecgr.process import is_alive
from fedjax_ecgr.runs.checkpoints import checkpointer
from fedjax_ecgr.runs.config import RunConfig
from fedjax_ecgr.types import PyTree

MODEL, RUNNING = "model", "running"


class Recorded(NamedTuple):
    """A recorded run. What was trained is read when `params` or `batch_stats` is asked for.

    Attributes:
      folder: where it is.
      config: what it computed.
      environment: where it ran: versions, hardware, time.
      table: one array of [rounds] for each column, as in `History.table`; empty if no round was
        recorded.
      cohorts: [rounds, cohort] int32, who took part.
      summary: `status` as it was last written, and what `History.summary` says.
    """

    folder: Path
    config: RunConfig
    environment: dict[str, Any]
    table: dict[str, np.ndarray]
    cohorts: np.ndarray
    summary: dict[str, Any]

    @property
    def status(self) -> str:
        """`finished`, `diverged`, `interrupted`, `failed`, `running` or `killed`.

        `killed` is a run that never came to its end and whose process, on this host, is no more.
        """
        status = self.summary["status"]
        host, process = (self.summary.get(name) for name in ("host", "process"))
        ended = isinstance(process, int) and is_alive(str(host), process) is False
        return "killed" if status == RUNNING and ended else status

    @property
    def params(self) -> PyTree:
        """The trained global parameters, nested dicts of NumPy arrays.

        They are those after round `summary["model_round"]`: the last one, or, of a run that did not
        finish, that of the last evaluation it came to.

        Raises:
          InputError: if the run came to none.
        """
        return self._model()["params"]

    @property
    def batch_stats(self) -> PyTree:
        """The statistics that go with `params`; see there."""
        return self._model()["batch_stats"]

    def _model(self) -> PyTree:
        path = self.folder.absolute() / MODEL
        if not path.exists():
            raise InputError(f"{self.folder}: no model is recorded, the run is {self.status}")
        with checkpointer() as saver:
            return saver.restore(path)
