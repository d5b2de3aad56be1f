"""A run: rounds in compiled blocks, an evaluation after each, and the history of it all."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import check, metrics
from fedjax_ecgr.algorithms import Algorithm
from fedjax_ecgr.algorithms.common import constant
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine import hosts, streams
from fedjax_ecgr.engine.evaluation import Evaluation
from fedjax_ecgr.engine.program import Simulation, simulation
from fedjax_ecgr.engine.round import RoundInfo
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.engine.state import State
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.types import counting_dtype

MAX_SEED = 2**32 - 1  # a larger one would be cut to 32 bits
Table = dict[str, np.ndarray]  # columns of one length

COLUMNS = (
    "round",
    "learning_rate",
    "train_loss",
    "drift",
    "update_variance",
    "bytes_up",
    "bytes_down",
    "seconds",
    "test_loss",
    "test_accuracy",
    "client_accuracy_mean",
    "client_accuracy_std",
    "client_accuracy_worst",
    "validation_loss",
    "validation_accuracy",
)
"""The columns of `History.table`, in their order."""


class History(NamedTuple):
    """What a run recorded.

    Attributes:
      table: one array of [rounds] for each column; NaN where a round was not evaluated, and see
        `RoundInfo` for a round in which nobody took part.
        round: 1 for the first.
        learning_rate, train_loss, drift, update_variance: see `RoundInfo`.
        bytes_up, bytes_down: of the messages from those of the cohort that sent something, and to
        those that were asked.
        seconds: how long the round took by the system's virtual clock; 0 without one.
        test_loss, test_accuracy, client_accuracy_mean, client_accuracy_std,
        client_accuracy_worst: see `Evaluation`.
        validation_loss, validation_accuracy: likewise; NaN without validation examples.
      cohorts: [rounds, cohort] int32, who took part.
      state: the state after the last round.
      compile_seconds: what compilation took.
      run_seconds: what the rounds and evaluations took, compilation apart.
    """

    table: Table
    cohorts: np.ndarray
    state: State
    compile_seconds: float
    run_seconds: float

    def summary(self, target_accuracy: float | None = None) -> dict[str, Any]:
        """Returns the run in a few numbers.

        Args:
          target_accuracy: adds `rounds_to_target`, the first round that reached it, or None.
        """
        accuracy, losses = self.table["test_accuracy"], self.table["train_loss"]
        evaluated, losses = accuracy[~np.isnan(accuracy)], losses[~np.isnan(losses)]
        seconds = self.run_seconds
        summary: dict[str, Any] = {
            "rounds": len(accuracy),
            "final_train_loss": float(losses[-1]) if losses.size else None,
            "bytes_up": int(self.table["bytes_up"].sum()),
            "bytes_down": int(self.table["bytes_down"].sum()),
            "simulated_seconds": float(self.table["seconds"].sum()),
            "compile_seconds": self.compile_seconds,
            "run_seconds": seconds,
            "rounds_per_second": len(accuracy) / seconds if seconds else None,
        }
        if evaluated.size:
            summary |= {
                "final_accuracy": float(evaluated[-1]),
                "best_accuracy": float(evaluated.max()),
                "oscillation": metrics.oscillation(evaluated),
            }
        if target_accuracy is not None:
            summary["target_accuracy"] = target_accuracy
            summary["rounds_to_target"] = metrics.rounds_to_accuracy(
                self.table["round"], accuracy, target_accuracy
            )
        return summary


class DivergedError(RuntimeError):
    """A run's numbers became NaN or Inf.

    Attributes:
      round: the round in which that began, 1 for the first.
      clients: the clients whose loss, update or statistics were not finite; empty if the server's
        step alone was not.
      history: all rounds before, without a final state's worth.
    """

    def __init__(self, round_number: int, clients: list[int], history: History):
        self.round, self.clients, self.history = round_number, clients, history
        shown = ", ".join(map(str, clients[:10])) + (", …" if len(clients) > 10 else "")
        where = f"on {len(clients)} client(s): {shown}" if clients else "in the server's step"
        super().__init__(
            f"diverged to NaN or Inf in round {round_number} {where}; "
            f"{round_number - 1} round(s) before it are kept (a smaller learning rate may help)"
        )


class Progress(NamedTuple):
    """What a caller is told after each block of rounds.

    Attributes:
      round: rounds done.
      train_loss: of the last round; NaN if nobody took part in it.
      accuracy: of the last evaluation, or NaN.
      rounds_per_second: of the last block, compilation apart.
      table: the block's rows, as in `History.table`.
      cohorts: [rounds of the block, cohort] int32, who took part.
      state: the state after these rounds; gone when the next block begins, so copy what is to stay.
    """

    round: int
    train_loss: float
    accuracy: float
    rounds_per_second: float
    table: Table
    cohorts: np.ndarray
    state: State


def simulate(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    *,
    rounds: int,
    seed: int = 0,
    eval_every: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> History:
    """Simulates federated learning and returns what happened.

    Args:
      algorithm: the federated algorithm, with its regulator.
      model: the model.
      data: the clients' data.
      rounds: how many rounds.
      seed: of everything random in the run: first parameters, cohorts, orders of examples.
      eval_every: rounds from one evaluation to the next; the last round is always evaluated.
      on_progress: called after each block of `eval_every` rounds.
      **options: those of `fedjax_ecgr.engine.simulation`: `test`, `cohort_size`, `batch_size`,
        `local_epochs`, `placement`, …

    Raises:
      InputError: if anything is out of range or does not fit together; nothing is compiled then.
      DivergedError: if NaN or Inf turns up; it holds the history up to there.
    """
    check.count("rounds", rounds)
    check.count("seed", seed, low=0, high=MAX_SEED)
    check.count("eval_every", eval_every)
    built = simulation(algorithm, model, data, **options)
    return run(built, rounds=rounds, seed=seed, eval_every=eval_every, on_progress=on_progress)


def run(
    built: Simulation,
    *,
    rounds: int,
    seed: int = 0,
    eval_every: int = 1,
    hyperparameters: Mapping[str, Any] | None = None,
    after: History | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> History:
    """Runs a simulation; a second run, of another seed or other numbers, compiles nothing.

    Args:
      built: from `simulation`.
      rounds: how many rounds, those before included.
      seed: of everything random in the run.
      eval_every: rounds from one evaluation to the next; the last round is always evaluated.
      hyperparameters: in place of `built.hyperparameters`.
      after: the history of a run that was no longer: this one goes on from its end, with the same
        numbers, bit for bit, as if it had not stopped. It is left as it is.
      on_progress: called after each block of `eval_every` rounds.

    Raises:
      InputError: if a count is out of range, or no round is left after those before.
      DivergedError: if NaN or Inf turns up.
    """
    check.part("built", built, Simulation, "a Simulation, such as simulation(…) returns")
    rounds = check.count("rounds", rounds)
    check.count("seed", seed, low=0, high=MAX_SEED)
    eval_every = check.count("eval_every", eval_every)
    if on_progress is not None and not callable(on_progress):
        given = check.shown(on_progress)
        raise check.InputError(f"on_progress: {given} is not allowed, it must be a function")
    done = 0 if after is None else _rounds_of(after, rounds)
    length = min(eval_every, rounds)
    numbers = built.hyperparameters if hyperparameters is None else hyperparameters
    key = streams.root(seed)
    parts: list[tuple[Table, np.ndarray]] = []
    if after is not None:
        parts.append((after.table, after.cohorts))

    built.check(key, numbers)
    check_schedule(built.setting.work.algorithm, rounds)
    started = time.perf_counter()
    # a block of no rounds compiles everything and changes nothing
    first = built.init(key) if after is None else jax.tree.map(jnp.array, after.state)
    state, _ = built.block(first, key, numbers, 0, length)
    if built.evaluate is not None:
        built.evaluate(state, key, numbers)
    jax.block_until_ready(state)
    compiled = time.perf_counter()

    before = 0.0 if after is None else after.run_seconds
    while done < rounds:
        began = time.perf_counter()
        count = min(length - done % length, rounds - done)
        state, infos = built.block(state, key, numbers, count, length)
        evaluation = None if built.evaluate is None else built.evaluate(state, key, numbers)
        infos, evaluation = hosts.fetch((infos, evaluation))
        infos = jax.tree.map(lambda x, count=count: x[:count], infos)
        bad = not_finite(infos)
        if bad.any():
            count = int(np.argmax(bad))
            blamed = infos.cohort[count][~infos.clients.finite[count]].tolist()
            infos, evaluation = jax.tree.map(lambda x, count=count: x[:count], infos), None
        table = rows_of(built.setting, infos, evaluation, first=done + 1)
        parts.append((table, infos.cohort))
        done += count
        if bad.any():
            spent = (compiled - started, before + time.perf_counter() - compiled)
            raise DivergedError(done + 1, blamed, _history(parts, state, *spent))
        if on_progress is not None:
            accuracy = float("nan") if evaluation is None else float(evaluation.accuracy)
            speed = count / (time.perf_counter() - began)
            loss = float(infos.train_loss[-1])
            on_progress(Progress(done, loss, accuracy, speed, *parts[-1], state))
    return _history(parts, state, compiled - started, before + time.perf_counter() - compiled)


def _rounds_of(after: History, rounds: int) -> int:
    """Returns the rounds of a history that is gone on from; raises `InputError` if none is left."""
    check.part("after", after, History, "a History, such as run(…) returns")
    done = len(after.cohorts)
    if done >= rounds:
        raise check.InputError(f"rounds: {rounds} is not allowed after {done}, it must be more")
    return done


def not_finite(infos: RoundInfo) -> np.ndarray:
    """Returns in which rounds NaN or Inf turned up, [..., rounds] bool."""
    return ~np.asarray(infos.clients.finite.all(axis=-1) & infos.finite)


def check_schedule(algorithm: Algorithm, rounds: int) -> None:
    """Raises `InputError` for the first round to which a schedule gives no factor of at least 0."""
    if algorithm.schedule is constant:
        return
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules need it
        factors = np.asarray(
            jax.vmap(lambda t: jnp.asarray(algorithm.schedule(t)))(jnp.arange(rounds))
        )
    bad = ~(np.isfinite(factors) & (factors >= 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise check.InputError(
            f"learning_rate: the schedule gives {factors[first]} in round {first + 1}, it must be "
            "a number of at least 0"
        )


def _history(
    parts: list[tuple[Table, np.ndarray]],
    state: State,
    compile_seconds: float,
    run_seconds: float,
) -> History:
    tables, cohorts = zip(*parts, strict=True)
    table = {name: np.concatenate([part[name] for part in tables]) for name in tables[0]}
    return History(table, np.concatenate(cohorts), state, compile_seconds, run_seconds)


def no_rows(shape: tuple[int, ...], dtype: Any) -> Table:
    """Returns columns as `rows_of` makes them beside parameters of `dtype`, all zero."""
    types = {
        **dict.fromkeys(("round", "bytes_up", "bytes_down"), np.int64),
        **dict.fromkeys(("learning_rate", "train_loss", "drift", "update_variance"), dtype),
        "seconds": counting_dtype(dtype),
    }
    return {name: np.zeros(shape, types.get(name, np.float64)) for name in COLUMNS}


def rows_of(
    setting: Setting, infos: RoundInfo, evaluation: Evaluation | None, *, first: int
) -> Table:
    """Returns the columns of one block; an evaluation stands in its last row.

    Args:
      setting: what the rounds did.
      infos: [..., rounds] leaves, on the host; whatever is before the rounds, all columns have.
      evaluation: [...] leaves.
      first: the number of the first round.
    """
    shape = infos.cohort.shape[:-1]
    uploads = (infos.clients.num_steps > 0).sum(axis=-1)

    held = None if evaluation is None else evaluation.validation

    def last(value: Any, of: Evaluation | None = evaluation) -> np.ndarray:
        column = np.full(shape, np.nan)
        if of is not None:
            column[..., -1] = value(of)
        return column

    return {
        "round": np.broadcast_to(np.arange(first, first + shape[-1]), shape),
        "learning_rate": np.asarray(infos.learning_rate),
        "train_loss": np.asarray(infos.train_loss),
        "drift": np.asarray(infos.drift),
        "update_variance": np.asarray(infos.update_variance),
        "bytes_up": np.asarray(uploads) * setting.bytes_up,
        "bytes_down": np.asarray(infos.asked, np.int64) * setting.bytes_down,
        "seconds": np.asarray(infos.seconds),
        "test_loss": last(lambda e: e.loss),
        "test_accuracy": last(lambda e: e.accuracy),
        "client_accuracy_mean": last(lambda e: e.clients.mean),
        "client_accuracy_std": last(lambda e: e.clients.std),
        "client_accuracy_worst": last(lambda e: e.clients.worst),
        "validation_loss": last(lambda e: e.loss, held),
        "validation_accuracy": last(lambda e: e.accuracy, held),
    }
