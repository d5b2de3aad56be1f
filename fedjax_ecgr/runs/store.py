"""A run recorded in a folder of its own, which nothing ever overwrites.

    config.json        everything that decides what the run computes (`RunConfig`)
    environment.json   versions, hardware, placement, when it started
    history.parquet    one row a round: the columns of `History.table`, and `cohort`
    curves.png         the same as a figure
    model/             `params` and `batch_stats`, the global model (an Orbax checkpoint)
    summary.json       `status`, `model_round`, and the run in a few numbers

The model is that after the last round; of a run that diverged or was stopped, that after the last
block of `eval_every` rounds that it came through, if it did through one. A run that was killed has
none. What clients keep is not recorded.

The status is `running` until the run ends as `finished`, `diverged`, `interrupted` (by Ctrl-C,
SIGTERM or SIGHUP) or `failed`; `running` of a process that is no more is read as `killed`
(`Recorded.status`). The folder appears under its name when config, environment and status are in
it, and every file in it is replaced as a whole. So whatever happens, nothing half-written has a
run's name, and nothing unfinished says that it is finished.
"""

import datetime
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine import DivergedError, History, Progress, Simulation, run
from fedjax_ecgr.engine.hosts import refuse_several
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.files import whole_folder, write
from fedjax_ecgr.process import terminable, this_process, undisturbed
from fedjax_ecgr.runs.config import RunConfig, from_json, from_text, to_json
from fedjax_ecgr.runs.environment import environment
from fedjax_ecgr.runs.recorded import MODEL, RUNNING, Recorded
from fedjax_ecgr.runs.report import curves
from fedjax_ecgr.types import PyTree

_SAVE_SECONDS = 10.0  # what a killed run loses at most


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
    built.check(jax.random.key(config.seed), built.hyperparameters)
    folder = _create(Path(folder), config, built)
    rows = _Rows(folder)

    def progressed(progress: Progress) -> None:
        rows.add(progress)
        if on_progress is not None:
            on_progress(progress)

    try:
        with terminable(), jax.default_matmul_precision(config.precision):
            history = run(
                built,
                rounds=config.rounds,
                seed=config.seed,
                eval_every=config.eval_every,
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
    return history


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

    def __init__(self, folder: Path):
        self.folder, self.parts = folder, list[Progress]()
        self.saved = time.monotonic()
        self.model: _Model | None = None

    def add(self, progress: Progress) -> None:
        state = progress.state
        # copies, for the next block takes the arrays' memory
        held = jax.tree.map(np.array, jax.device_get((state.params, state.batch_stats)))
        self.model = _Model(progress.round, *held)
        self.parts.append(progress._replace(state=None))  # type: ignore[arg-type]
        if time.monotonic() - self.saved > _SAVE_SECONDS:
            _write_history(self.folder, self.history())
            _write_json(self.folder / "summary.json", _running(progress.round))
            self.saved = time.monotonic()

    def history(self) -> History:
        """The history so far; what compilation took is not known yet."""
        if not self.parts:
            return _history({}, np.zeros((0, 0), np.int32), 0.0)
        columns = self.parts[0].table
        table = {name: np.concatenate([p.table[name] for p in self.parts]) for name in columns}
        seconds = sum(len(p.cohorts) / p.rounds_per_second for p in self.parts)
        return _history(table, np.concatenate([p.cohorts for p in self.parts]), seconds)


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
        _write_json(hidden / "environment.json", environment() | _layout(built.placement))
        _write_json(hidden / "summary.json", _running(0))
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
            _write_json(folder / "summary.json", summary)
        if len(history.cohorts):
            title = f"{config.method} on {config.data_name}, seed {config.seed}"
            figure = curves(history.table, title)
            write(folder / "curves.png", lambda file: figure.savefig(file, format="png"))


def _write_model(path: Path, model: _Model) -> None:
    """Writes an Orbax checkpoint, as a whole or not at all."""
    import orbax.checkpoint as ocp  # only who writes waits for the import

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(
            path.absolute(), {"params": model.params, "batch_stats": model.batch_stats}
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
    import pyarrow.parquet as pq

    if not path.exists():
        return {}, np.zeros((0, 0), np.int32)
    try:
        with path.open("rb") as file:
            # without Arrow's threads: a process that ends soon after sometimes aborts in them
            table = pq.read_table(file, use_threads=False)
        columns = {name: table[name].to_numpy() for name in table.column_names if name != "cohort"}
        cohorts = table["cohort"].combine_chunks()
        return columns, cohorts.flatten().to_numpy().reshape(len(cohorts), -1)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as a run's history: {reason}") from None


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes JSON that any reader takes: a number that is not finite becomes null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    text = json.dumps(finite, indent=2, allow_nan=False) + "\n"
    write(path, lambda file: file.write(text.encode()))
