"""A study on the machines of a Ray cluster.

Each task runs a share of the members in the sweep's own folder, on a file system that all machines
have: what it has recorded is there, whatever becomes of it, and a task whose worker dies is started
again and goes on from the share's checkpoints. The process that asks only waits, and makes the
tables. Ray is imported here alone, and only when it is asked for.
"""

import errno
import math
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.process import deferred, terminable, undone
from fedjax_ecgr.programs import keep_programs
from fedjax_ecgr.sweeps.conduct import plan, take_part
from fedjax_ecgr.sweeps.shares import Shard
from fedjax_ecgr.sweeps.store import SHARES, Store, opened
from fedjax_ecgr.sweeps.study import Study

RETRIES = 10
"""A task whose worker dies is started so many times again."""

_GRACE = 120.0  # seconds: for tasks to save what is under way, for files to be seen on all machines
_CONNECT = 10.0
_POLL = 1.0


class RayProgress(NamedTuple):
    """What a caller is told now and then.

    Attributes:
      tasks: tasks that are not done …
      of_tasks: … of so many.
      members: members recorded …
      of_members: … of so many.
    """

    tasks: int
    of_tasks: int
    members: int
    of_members: int


class Layout(NamedTuple):
    """How tasks meet the machines.

    Attributes:
      tasks: how many.
      cpus: cores of each.
      gpus: GPUs of each.
    """

    tasks: int
    cpus: int
    gpus: int


def conduct_on_ray(
    study: Study,
    folder: Path,
    address: str,
    *,
    tasks: int | None = None,
    members_at_once: int | None = None,
    num_devices: int | None = None,
    on_progress: Callable[[RayProgress], None] | None = None,
    on_change: Callable[[list[str]], None] | None = None,
) -> None:
    """Runs what is not recorded yet of a study on a Ray cluster, and records it in a folder.

    A task that fails leaves the others alone; what was wrong is raised when they are done.

    Args:
      study: what is asked for.
      folder: as for `fedjax_ecgr.sweeps.conduct`; all machines must find it under this path.
      address: of a cluster, `auto` for the one that this machine is of, or `local` for one of this
        machine that ends with the sweep. A process that has connected itself stays as it is.
      tasks: into how many the members are divided; by default one for each machine, of those with
        GPUs where there are such. Each has an equal part of its machine's cores and GPUs.
      members_at_once: members that run at once on each device; by default one on a CPU.
      num_devices: devices of its own that a task spreads members over; all by default.
      on_progress: called about once a second.
      on_change: see `fedjax_ecgr.sweeps.conduct`.

    Raises:
      InputError: if anything is out of range, Ray is not installed or reached, or the folder is no
        sweep's, another process's or not there on all machines.
      KeyboardInterrupt: if a signal asks for an end; the members under way are saved first.
      OSError: if something cannot be written, or a task's worker has died too often.
    """
    found = plan(study, members_at_once=members_at_once)
    count = len(found.members)
    if tasks is not None:
        check.count("tasks", tasks, high=count, why="the members there are")
    given = {"members_at_once": members_at_once, "num_devices": num_devices}
    path = folder.absolute()
    with _connected(address) as ray, terminable(), opened(path, study, found.asked) as opening:
        store, changes = opening
        if changes and store.ended and on_change is not None:
            on_change(changes)
        layout = laid_out(ray.nodes(), count, tasks)
        resources = {"num_cpus": layout.cpus, "num_gpus": layout.gpus}
        cores = {"env_vars": {"JAX_NUM_CPU_DEVICES": str(layout.cpus)}}
        remote = ray.remote(**resources, runtime_env=cores, max_retries=RETRIES)(_task)
        started = {
            remote.remote(study, path, (i, layout.tasks), given): i
            for i in range(1, layout.tasks + 1)
        }

        def tell(left: int) -> None:
            store.read()
            store.refresh()
            if on_progress is not None:
                done = len(store.ended.keys() & found.asked.configs.keys())
                on_progress(RayProgress(left, layout.tasks, done, count))

        try:
            _see(store, _results(ray, started, tell))
            shutil.rmtree(path / SHARES)
        finally:
            store.tables()


def laid_out(nodes: Sequence[Mapping[str, Any]], members: int, tasks: int | None) -> Layout:
    """Returns how tasks meet the machines: all at once, if there are cores and GPUs enough.

    Args:
      nodes: what `ray.nodes()` returns.
      members: how many there are.
      tasks: how many tasks, at most as many; by default one for each machine.

    Raises:
      InputError: if no machine has a core.
    """
    useful = [node["Resources"] for node in nodes if node["Alive"]]
    useful = [one for one in useful if one.get("CPU", 0) >= 1]
    if not useful:
        raise InputError("ray: no machine of the cluster has a core for tasks")
    chosen = [one for one in useful if one.get("GPU", 0) >= 1] or useful
    number = min(len(chosen), members) if tasks is None else tasks
    together = math.ceil(number / len(chosen))
    cpus, gpus = (min(int(one.get(name, 0)) for one in chosen) for name in ("CPU", "GPU"))
    return Layout(number, max(1, cpus // together), max(min(1, gpus), gpus // together))


def _task(study: Study, folder: Path, shard: Shard, layout: Mapping[str, Any]) -> list[str]:
    """Runs a share on a machine of the cluster."""
    keep_programs()
    return take_part(study, folder, shard, **layout)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Gives Ray's module, connected to a cluster."""
    try:
        import ray
    except ImportError:
        raise InputError("ray: it is not installed: pip install 'fedjax-ecgr[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    _check_heard(address)
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        with undone():  # Ray's own handler of SIGTERM
            ray.init(address, log_to_driver=False, logging_level="error", **options)
    except Exception as error:  # of many kinds, one for each way in which it is not there
        reason = check.reason(error)
        raise InputError(f"ray: {address!r} cannot be reached: {reason}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_heard(address: str) -> None:
    """Raises `InputError` for an address at which nobody answers, which Ray tries for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"ray: {address!r} cannot be reached: {error}") from None


def _results(ray: Any, started: Mapping[Any, int], tell: Callable[[int], None]) -> list[str]:
    """Returns what all tasks recorded; a task's failure is raised when the others are done."""
    left, names = list(started), list[str]()
    failures: list[Exception] = []
    try:
        with deferred() as ending:  # nothing may be raised in the midst of Ray
            while left:
                done, left = ray.wait(left, timeout=_POLL)
                for task in done:
                    try:
                        names += ray.get(task)
                    except ray.exceptions.RayError as error:
                        failures.append(_failure(error, f"task {started[task]} of {len(started)}"))
                tell(len(left))
                ending.raise_if_asked()
    except BaseException:
        for task in left:
            ray.cancel(task)  # as Ctrl-C would
        ray.wait(left, num_returns=len(left), timeout=_GRACE)
        raise
    if failures:
        raise failures[0]
    return names


def _failure(error: Exception, where: str) -> Exception:
    """Returns what was wrong with a task, rather than how Ray tells it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, InputError | OSError):
        return cause
    if cause is not None:
        return error  # a fault of this package: with the whole trace
    reason = check.reason(error)
    return OSError(errno.EIO, f"{where}: {reason}", "ray")


def _see(store: Store, names: Sequence[str]) -> None:
    """Waits until what was recorded on other machines is seen on this one."""
    end = time.monotonic() + _GRACE
    store.read()
    while not store.ended.keys() >= set(names):
        if time.monotonic() > end:
            why = "what was recorded on other machines is not seen on this one"
            raise OSError(errno.EIO, why, str(store.folder))
        time.sleep(_POLL)
        store.read()
