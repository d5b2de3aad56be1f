"""Trackers: where else a run is shown while it goes on, one a file.

To list another one is to import it here; its package is an extra of the same name.
"""

from collections.abc import Sequence

from fedjax_ecgr import check
from fedjax_ecgr.listing import listing
from fedjax_ecgr.trackers.at_work import Trackers as Trackers
from fedjax_ecgr.trackers.base import About as About
from fedjax_ecgr.trackers.base import Tracker as Tracker
from fedjax_ecgr.trackers.base import Tracking as Tracking
from fedjax_ecgr.trackers.base import points as points
from fedjax_ecgr.trackers.mlflow import mlflow as mlflow
from fedjax_ecgr.trackers.tensorboard import tensorboard as tensorboard
from fedjax_ecgr.trackers.wandb import wandb as wandb

TRACKERS = listing(globals(), Tracker)


def chosen(names: str | Sequence[str] | None) -> Trackers:
    """Returns the trackers of some names, or of one text with commas between; None for none.

    Raises:
      InputError: for an unknown name, or where a tracker's package is missing.
    """
    listed = names.split(",") if isinstance(names, str) else list(names or ())
    wanted = [name.strip() for name in listed if name.strip() and listed != ["none"]]
    makers = {name: check.known("track", name, TRACKERS) for name in wanted}
    return Trackers([make() for make in makers.values()])
