"""Members of a sweep, as trackers are told of them: each a run, when its wave has ended."""

from collections.abc import Callable, Mapping
from pathlib import Path

from fedjax_ecgr.engine import Outcome
from fedjax_ecgr.kinds import write
from fedjax_ecgr.runs.config import flat
from fedjax_ecgr.sweeps.study import Members
from fedjax_ecgr.trackers import About, Trackers


def to_trackers(
    trackers: Trackers, folder: Path
) -> Callable[[Members, Mapping[str, Outcome]], None]:
    """Returns what `conduct` is to call with members that are recorded.

    Args:
      trackers: what is told.
      folder: the sweep's, by whose name they are grouped.
    """

    def tell(asked: Members, outcomes: Mapping[str, Outcome]) -> None:
        for member, (history, diverged) in outcomes.items():
            options = flat(asked.configs[member])
            differ = [f"{n}={write(options[n])}" for n in asked.axes if n in options]
            name = " ".join([*([",".join(differ)] if differ else []), member[:8]])
            trackers.begin(About(name, folder, {"member": member, **options}, folder.name))
            trackers.rows(history.table)
            trackers.end("finished" if diverged is None else "diverged")

    return tell
