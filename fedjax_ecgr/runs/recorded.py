"""What a run's folder holds, as values."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr.check import InputError
from fedjax_ecgr.runs.config import RunConfig
from fedjax_ecgr.types import PyTree

MODEL = "model"


class Recorded(NamedTuple):
    """A recorded run. What was trained is read when `params` or `batch_stats` is asked for.

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

    @property
    def params(self) -> PyTree:
        """The trained global parameters, nested dicts of NumPy arrays.

        Raises:
          InputError: if the run did not finish.
        """
        return self._model()["params"]

    @property
    def batch_stats(self) -> PyTree:
        """The statistics that go with `params`; see there."""
        return self._model()["batch_stats"]

    def _model(self) -> PyTree:
        import orbax.checkpoint as ocp  # only who reads a model waits for the import

        path = self.folder.absolute() / MODEL
        if not path.exists():
            status = self.summary.get("status")
            raise InputError(f"{self.folder}: no model is recorded, the run is {status}")
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path)
