"""A run recorded in a folder of its own, which nothing ever overwrites.

    config.json        everything that decides what the run computes (`RunConfig`)
    environment.json   versions, hardware, placement, when it started
    history.parquet    one row a round: the columns of `History.table`, and `cohort`
    curves.png         the same as a figure
    model/             `params` and `batch_stats`, the global model (an Orbax checkpoint)
    summary.json       `status`, `model_round`, and the run in a few numbers
    checkpoint/        where a run under way stood last, to go on from (`resume`)
    lock               held by the process that writes here

The model is that after the last round; of a run that diverged or was stopped, that after the last
block of `eval_every` rounds that it came through, if it did through one. A run that was killed has
none. What clients keep is in the checkpoint alone.

The status is `running` until the run ends as `finished`, `diverged`, `interrupted` (by Ctrl-C,
SIGTERM or SIGHUP) or `failed`; `running` of a process that is no more is read as `killed`
(`Recorded.status`). The folder appears under its name when config, environment and status are in
it, and every file in it is replaced as a whole. So whatever happens, nothing half-written has a
run's name, and nothing unfinished says that it is finished.
"""

import datetime
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine import DivergedError, History, Progress, Simulation, run, streams
from fedjax_ecgr.engine.hosts import refuse_several
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.engine.run import COLUMNS, Table, no_rows
from fedjax_ecgr.engine.state import State
from fedjax_ecgr.files import locked, read_parquet, whole_folder, write, write_json
from fedjax_ecgr.process import deferred, this_process, undisturbed
from fedjax_ecgr.runs.checkpoints import Checkpoints, checkpointer
from fedjax_ecgr.runs.config import RunConfig, from_json, from_text, to_json
from fedjax_ecgr.runs.environment import environment
from fedjax_ecgr.runs.recorded import MODEL, RUNNING, Recorded
from fedjax_ecgr.runs.report import curves
from fedjax_ecgr.types import PyTree

CHECKPOINT, RUN = "checkpoint", "run"
_SAVE_SECONDS = 10.0  # of rows, that a killed run loses at most
_ENDS = {"finished": "has finished", "diverged": "has diverged"}


def record(
    config: RunConfig,
    built: Simulation,
    folder: str | Path,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> History:
    """Runs a simulation and records it; however it ends, the history up to there is kept.

    Args:
      config: what to run.
      built: `build(config)`.
      folder: where to record it; must not exist.
      on_progress: called after each block of `eval_every` rounds.

    Raises:
      InputError: if the folder exists; it is left as it is. Or if nobody could ever take part, or
        this is one of several processes that run one program.
      DivergedError: if NaN or Inf turns up; the status is `diverged` then.
      KeyboardInterrupt: if the user stops it; the status is `interrupted` then. For SIGTERM and
        SIGHUP it is a `Terminated`.
      OSError: if something cannot be written; it names the file.
    """
    refuse_several("folder")
    built.check(streams.root(config.seed), built.hyperparameters)
    folder = _create(Path(folder), config, built)
    with locked(folder):
        return _record(config, built, folder, None, on_progress)


def resume(
    built: Simulation,
    recorded: Recorded,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> History:
    """Goes on with a recorded run that came to no end, from its last checkpoint or the start.

    What comes of it is, bit for bit, what would have without the stop, if code, versions and device
    are the same (`fedjax_ecgr.runs.changes`).

    Args:
      built: `build(recorded.config)`.
      recorded: the run.
      on_progress: called after each block of `eval_every` rounds.

    Raises:
      InputError: if the run is at its end, or another process runs it.
      DivergedError: as in `record`, as are KeyboardInterrupt and OSError.
    """
    refuse_several("folder")
    folder = recorded.folder
    with locked(folder):
        recorded = load(folder)  # it may have ended since, by the process that had the lock
        config = recorded.config
        if recorded.status in ("finished", "diverged"):
            raise InputError(f"{folder}: nothing is left of the run, it {_ENDS[recorded.status]}")
        like = _standing(built.init(streams.root(config.seed)), config, [], [])
        saved = Checkpoints(folder / CHECKPOINT).latest(RUN, like)
        after = None
        if saved is not None:
            done, (state, table, cohorts) = saved
            table = {name: table[name][:done] for name in COLUMNS}
            seconds = recorded.summary.get("run_seconds") or 0.0
            after = History(table, cohorts[:done], state, math.nan, seconds)
        write_json(folder / "summary.json", _running(0 if after is None else done))
        return _record(config, built, folder, after, on_progress)


def _record(
    config: RunConfig,
    built: Simulation,
    folder: Path,
    after: History | None,
    on_progress: Callable[[Progress], None] | None,
) -> History:
    rows, checkpoints = _Rows(folder, after), Checkpoints(folder / CHECKPOINT)
    try:
        with (
            closing(checkpoints),
            deferred() as ending,
            jax.default_matmul_precision(config.precision),
        ):

            def progressed(progress: Progress) -> None:
                rows.add(progress)
                if on_progress is not None:
                    on_progress(progress)
                if progress.round < config.rounds:
                    if ending.asked or checkpoints.due:
                        stood = _standing(progress.state, config, rows.tables, rows.cohorts)
                        checkpoints.save(RUN, progress.round, stood)
                    ending.raise_if_asked()

            history = run(
                built,
                rounds=config.rounds,
                seed=config.seed,
                eval_every=config.eval_every,
                after=after,
                on_progress=progressed,
            )
    except DivergedError as error:
        facts = {"diverged_in_round": error.round, "diverged_clients": error.clients}
        _finish(folder, config, "diverged", error.history, rows.model, facts)
        raise
    except KeyboardInterrupt:
        _finish(folder, config, "interrupted", rows.history(), rows.model)
        raise
    except BaseException as error:
        reason = {"error": f"{type(error).__name__}: {error}"}
        _finish(folder, config, "failed", rows.history(), rows.model, reason)
        raise
    _finish(folder, config, "finished", history, rows.model)
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    return history


def _standing(
    state: State, config: RunConfig, tables: Sequence[Table], cohorts: Sequence[np.ndarray]
) -> tuple[State, Table, np.ndarray]:
    """Returns where a run stands, whose columns have room for all its rounds."""
    dtype = jnp.result_type(*jax.tree.leaves(state.params))
    table = no_rows((config.rounds,), dtype)
    everyone = np.zeros((config.rounds, config.cohort_size or config.num_clients), np.int32)
    done = 0
    for rows, who in zip(tables, cohorts, strict=True):
        for name, column in rows.items():
            table[name][done : done + len(who)] = column
        everyone[done : done + len(who)] = who
        done += len(who)
    return state, table, everyone


def load(folder: str | Path) -> Recorded:
    """Reads a recorded run, whatever its status.

    Raises:
      InputError: if the folder does not hold one.
    """
    folder = Path(folder)
    try:
        config = from_json(_text(folder / "config.json"))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    environment, summary = (
        from_text(_text(folder / name), f"{folder}: {name}")
        for name in ("environment.json", "summary.json")
    )
    if not isinstance(summary.get("status"), str):
        raise InputError(f"{folder}: summary.json: a status is missing, it must be text")
    table, cohorts = _read_history(folder / "history.parquet")
    return Recorded(folder, config, environment, table, cohorts, summary)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        run = str(path.parent)
        raise InputError(f"run: {run!r} is not a recorded run: {path.name}: {reason}") from None


def refuse_existing(path: Path) -> Path:
    """Returns `path`; raises `InputError` if something is there, for nothing is overwritten."""
    if path.exists() or path.is_symlink():
        raise InputError(f"out: {str(path)!r} exists, it must be a new name")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"out: {str(path)!r} is not allowed, {str(above)!r} is not a folder")
    return path


class _Model(NamedTuple):
    """The global model after a round, on the host."""

    round: int
    params: PyTree
    batch_stats: PyTree


class _Rows:
    """A run's rows as they come, saved now and then so that a killed run keeps them."""

    def __init__(self, folder: Path, after: History | None):
        self.folder, self.saved = folder, time.monotonic()
        self.model: _Model | None = None
        self.tables, self.cohorts, self.seconds = list[Table](), list[np.ndarray](), 0.0
        if after is not None:
            self.tables.append(after.table)
            self.cohorts.append(after.cohorts)
            self.seconds = after.run_seconds
            self._hold(len(after.cohorts), after.state)

    def add(self, progress: Progress) -> None:
        self.tables.append(progress.table)
        self.cohorts.append(progress.cohorts)
        self.seconds += len(progress.cohorts) / progress.rounds_per_second
        self._hold(progress.round, progress.state)
        if time.monotonic() - self.saved > _SAVE_SECONDS:
            _write_history(self.folder, self.history())
            write_json(self.folder / "summary.json", _running(progress.round))
            self.saved = time.monotonic()

    def history(self) -> History:
        """The history so far; what compilation took is not known yet."""
        if not self.tables:
            return _history({}, np.zeros((0, 0), np.int32), 0.0)
        table = {n: np.concatenate([t[n] for t in self.tables]) for n in self.tables[0]}
        return _history(table, np.concatenate(self.cohorts), self.seconds)

    def _hold(self, done: int, state: State) -> None:
        # copies, for the next block takes the arrays' memory
        held = jax.tree.map(np.array, jax.device_get((state.params, state.batch_stats)))
        self.model = _Model(done, *held)


def _history(table: dict[str, np.ndarray], cohorts: np.ndarray, seconds: float) -> History:
    """Returns the history of a run that is not at its end: it has no state to show."""
    return History(table, cohorts, None, math.nan, seconds)  # type: ignore[arg-type]


def _running(rounds: int) -> dict[str, Any]:
    """Returns the summary of a run under way: its process, and when that was seen alive."""
    seen = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"status": RUNNING, "rounds": rounds, **this_process(), "seen": seen}


def _create(folder: Path, config: RunConfig, built: Simulation) -> Path:
    refuse_existing(folder)
    with whole_folder(folder) as hidden:
        (hidden / "config.json").write_text(to_json(config), encoding="utf-8")
        write_json(hidden / "environment.json", environment() | _layout(built.placement))
        write_json(hidden / "summary.json", _running(0))
        refuse_existing(folder)
    return folder


def _layout(placement: Placement) -> dict[str, Any]:
    """Returns what a placement, `auto` above all, came to."""
    return {
        "placement": str(placement),
        "chunk_size": placement.chunk_size,
        "devices_used": placement.num_devices,
    }


def _finish(
    folder: Path,
    config: RunConfig,
    status: str,
    history: History,
    model: _Model | None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Writes what a run has come to; the status before the picture, which is made of the rest."""
    summary: dict[str, Any] = {"status": status, "rounds": 0, **(facts or {})}
    if model is not None:
        summary["model_round"] = model.round
    if len(history.cohorts):
        summary |= history.summary(config.target_accuracy)
    with undisturbed():
        try:
            if len(history.cohorts):
                _write_history(folder, history)
            if model is not None:
                _write_model(folder / MODEL, model)
        except OSError as error:
            summary |= {
                "status": "failed",
                "error": f"{error.filename or folder}: {error.strerror}",
            }
            summary.pop("model_round", None)
            raise
        finally:
            write_json(folder / "summary.json", summary)
        if len(history.cohorts):
            title = f"{config.method} on {config.data_name}, seed {config.seed}"
            figure = curves(history.table, title)
            write(folder / "curves.png", lambda file: figure.savefig(file, format="png"))


def _write_model(path: Path, model: _Model) -> None:
    """Writes an Orbax checkpoint, as a whole or not at all."""
    with checkpointer() as saver:
        saver.save(
            path.absolute(),
            {"params": model.params, "batch_stats": model.batch_stats},
            force=True,  # in the place of what a run that goes on had when it stopped
        )


def _write_history(folder: Path, history: History) -> None:
    import pyarrow as pa  # only who writes waits for the import
    import pyarrow.parquet as pq

    cohorts = pa.FixedSizeListArray.from_arrays(
        pa.array(history.cohorts.reshape(-1)), history.cohorts.shape[1]
    )
    table = pa.table({**history.table, "cohort": cohorts})
    write(folder / "history.parquet", lambda file: pq.write_table(table, file))


def _read_history(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    import pyarrow as pa

    if not path.exists():
        return {}, np.zeros((0, 0), np.int32)
    try:
        table = read_parquet(path)
        columns = {name: table[name].to_numpy() for name in table.column_names if name != "cohort"}
        cohorts = table["cohort"].combine_chunks()
        return columns, cohorts.flatten().to_numpy().reshape(len(cohorts), -1)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = check.reason(error)
        raise InputError(f"{path}: cannot be read as a run's history: {reason}") from None
