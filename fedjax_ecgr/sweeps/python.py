"""A sweep from Python: options and axes in, tables out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedjax_ecgr.reports.results import Results, read
from fedjax_ecgr.sweeps.conduct import Progress, conduct
from fedjax_ecgr.sweeps.study import study
from fedjax_ecgr.sweeps.tracked import to_trackers
from fedjax_ecgr.trackers import chosen


def sweep(
    out: str | Path,
    base: Mapping[str, Any] | None = None,
    *,
    grid: Mapping[str, Any] | None = None,
    zip: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    list: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    random: Mapping[str, Any] | None = None,
    members_at_once: int | None = None,
    num_devices: int | None = None,
    track: Sequence[str] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> Results:
    """Runs what is not recorded yet of a study, and returns all that is.

    Options are those of `fedjax-ecgr run`, in full or short, as in a study's file
    (`fedjax_ecgr.sweeps.study`).

    Args:
      out: the folder to record it in; a new one, or that of a sweep, which is gone on with.
      base: options of all members.
      grid: an axis for each option, with its values.
      zip: one axis, of values that go together; or several such.
      list: one axis, of points that are options; or several such, each under a name.
      random: one axis, of `count` draws.
      members_at_once: members that run at once on each device; by default one on a CPU.
      num_devices: devices that members are spread over; all by default.
      track: names of trackers (`fedjax_ecgr.trackers`), which are told of members as they end.
      on_progress: called after each compilation and each block of rounds.

    Returns:
      The tables of members and of their histories, and which options differ.

    Raises:
      InputError: if anything is out of range or does not fit together; nothing is compiled then.
      KeyboardInterrupt: if a signal asks for an end; what was under way is saved first.
      OSError: if something cannot be written; it names the file.
    """
    asked = study(base, grid=grid, zip=zip, list=list, random=random)
    layout: dict[str, Any] = {"members_at_once": members_at_once, "num_devices": num_devices}
    told = to_trackers(chosen(track), Path(out))
    conduct(asked, Path(out), **layout, on_progress=on_progress, on_recorded=told)
    return read(Path(out))
