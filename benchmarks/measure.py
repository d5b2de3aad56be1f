"""Timing two sides in turn, after a check that they do the same work."""

import math
import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import disturbance, work
from benchmarks.peers import Commands
from benchmarks.side import Side
from benchmarks.work import Federation, Work

COMPILE_SECONDS = {"cpu": 15.0, "gpu": 30.0}
"""The longest that a row's program may compile."""

TOLERANCE = {"cpu": 1e-3, "gpu": 1e-2}
"""How far two sides may be apart, relatively; an accelerator rounds products to 10 bits."""

ACCURACY_TOLERANCE = 0.01
"""How far accuracies may be apart, of two trainings that shuffle in their own ways."""

SIDES = ("ours", "theirs")


class Bench(NamedTuple):
    """How rows are measured in this run.

    Attributes:
      commands: program to command.
      kind: "cpu" or "gpu", what this project's side runs on.
      repeats: timings of each side.
      quick: whether to take small sizes, only to see that everything runs.
    """

    commands: Commands
    kind: str
    repeats: int
    quick: bool = False


class Target(NamedTuple):
    """What a row's figure must reach.

    Attributes:
      text: in words.
      met: whether a figure reaches it.
    """

    text: str
    met: Callable[[float], bool]


class Result(NamedTuple):
    """One row, measured.

    Attributes:
      title: what was measured.
      against: what with.
      ours: seconds a round of each repeat, this project's side.
      theirs: likewise, of the other side, taken in turn with `ours`; empty without one.
      figure: what the target is about.
      shown: the figure as the table shows it.
      target: what to reach, in words; "—" for none.
      reached: whether the figure reaches its target.
      compile_seconds: of this project's program, not in `ours`.
      updates_a_second: clients' rounds that this project's side does a second, median.
      share: of the machine's rate of matrix products, that the useful operations come to.
      peak_bytes: the most memory used, by side.
      others_share: of the cores, that other processes took meanwhile; None where unknown.
      details: anything else worth keeping.
      compile_limit: the most that `compile_seconds` may be; older records had it in `reached`.
    """

    title: str
    against: str
    ours: list[float]
    theirs: list[float]
    figure: float
    shown: str
    target: str
    reached: bool
    compile_seconds: float
    updates_a_second: float
    share: float
    peak_bytes: dict[str, int]
    others_share: float | None
    details: dict[str, Any]
    compile_limit: float = math.inf

    @property
    def late(self) -> bool:
        """Whether the program compiled for longer than it may."""
        return self.compile_seconds > self.compile_limit

    @property
    def passed(self) -> bool:
        """Whether the figure reaches its target, and the program compiled within its limit."""
        return self.reached and not self.late


class DifferentWorkError(RuntimeError):
    """Two sides that are to be compared do not do the same."""


def at_least(times: float) -> Target:
    """Returns the target of being so many times as fast as the other side."""
    return Target(f"≥ {times:g}×", lambda ratio: ratio >= times)


def speed_up(ours: list[float], theirs: list[float]) -> float:
    """Returns the median over repeats of theirs / ours: above 1 where this project is faster."""
    return statistics.median(t / o for o, t in zip(ours, theirs, strict=True))


class Comparison(NamedTuple):
    """Two sides to be compared.

    Attributes:
      title: what the row is called.
      task: what to do.
      federation: on which data.
      program: the other side.
      targets: what to reach, by kind of hardware; none where a kind is missing.
      rounds: rounds that are timed together.
      other: the other side's task, where it is another one.
      against: what the other side is called; by default what it calls itself.
      figure: seconds a round of both sides -> what the target is about; by default the speed-up.
      shown: how to write the figure.
      agree_on: what the two sides must agree on, of `wire.Answer`'s fields …
      agree_after: … after how many rounds.
      accuracy_after: rounds after which both are evaluated on the test examples, each with its own
        order of examples; None for no such thing.
    """

    title: str
    task: Work
    federation: Federation
    program: str
    targets: Mapping[str, Target]
    rounds: int
    other: Work | None = None
    against: str | None = None
    figure: Callable[[list[float], list[float]], float] = speed_up
    shown: str = "{:.2f}×"
    agree_on: tuple[str, ...] = ("losses", "moved", "statistics")
    agree_after: int = 2
    accuracy_after: int | None = None


def compare(bench: Bench, row: Comparison) -> Result:
    """Measures a task on both sides in turn, after a check that they do the same.

    Raises:
      DifferentWorkError: they do not agree, or run on different kinds of hardware.
      SideError: a side stopped.
      PeerError: the other side's environment cannot be made.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        here, there = (
            stack.enter_context(start(bench, program, task, row.federation, folder / f"{side}.npz"))
            for side, program, task in (
                ("ours", "ours", row.task),
                ("theirs", row.program, row.other or row.task),
            )
        )
        check_hardware(here.about, there.about)
        checked = check_agreement(bench.kind, row, here, there)
        order = {"rounds": row.rounds, "shuffle": True, "cohorts": None}
        warm = here.ask(**order)
        there.ask(**order)
        before = disturbance.reading()
        pairs = [(here.ask(**order), there.ask(**order)) for _ in range(bench.repeats)]
        others = disturbance.others_share(before, disturbance.reading())
        rate = product_rate(bench, here)
        if row.accuracy_after is not None:
            checked["accuracy"] = check_accuracy(row.accuracy_after, here, there)
    ours, theirs = ([pair[side]["seconds"] / row.rounds for pair in pairs] for side in (0, 1))
    figure = row.figure(ours, theirs)
    return result(
        bench,
        row.task,
        row.federation,
        title=row.title,
        against=row.against or there.about["name"],
        ours=ours,
        theirs=theirs,
        figure=figure,
        shown=row.shown.format(figure),
        target=row.targets.get(bench.kind),
        compile_seconds=warm["compile_seconds"],
        rate=rate,
        peak_bytes={name: one["peak_bytes"] for name, one in zip(SIDES, pairs[-1], strict=True)},
        others_share=others,
        details={
            "rounds_timed_together": row.rounds,
            "agreement": checked,
            "against": there.about,
        },
    )


def result(
    bench: Bench,
    task: Work,
    federation: Federation,
    *,
    ours: list[float],
    figure: float,
    target: Target | None,
    compile_seconds: float,
    rate: float,
    details: Mapping[str, Any],
    **measured: Any,
) -> Result:
    """Returns a row's result.

    Args:
      bench: how it was measured.
      task: what this project's side did.
      federation: on which data.
      ours: see `Result`.
      figure: see `Result`.
      target: what to reach, or None.
      compile_seconds: see `Result`.
      rate: operations a second of a matrix product in this run.
      details: see `Result`.
      **measured: the other fields of `Result` that do not follow from these.
    """
    seconds = statistics.median(ours)
    useful = work.operations_a_round(task, federation) / seconds
    return Result(
        ours=ours,
        figure=figure,
        target=target.text if target else "—",
        reached=target is None or target.met(figure),
        compile_seconds=compile_seconds,
        compile_limit=COMPILE_SECONDS[bench.kind],
        updates_a_second=task.members * (task.cohort_size or len(federation.sizes)) / seconds,
        share=useful / rate,
        details={
            **details,
            "useful_operations_a_second": useful,
            "product_operations_a_second": rate,
            "task": task._asdict(),
            "clients": len(federation.sizes),
            "examples": int(federation.sizes.sum()),
        },
        **measured,
    )


def start(
    bench: Bench,
    program: str,
    task: Work,
    federation: Federation,
    path: Path,
    environment: Mapping[str, str] | None = None,
) -> Side:
    """Starts a program on a task, which is written to `path` for it."""
    work.write(path, work.Task(task, federation, work.first_parameters(task.model)))
    return Side(bench.commands(program), str(path), environment=environment)


def product_rate(bench: Bench, here: Side) -> float:
    """Returns the rate of a matrix product on this project's side, in operations a second.

    Of 2048 rows and columns; of 512 for a quick look.
    """
    return here.ask(product=512 if bench.quick else 2048)["operations_a_second"]


def check_hardware(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raises `DifferentWorkError` unless both sides run on the same kind of hardware."""
    if ours["kind"] != theirs["kind"]:
        raise DifferentWorkError(
            f"{ours['name']} runs on the {ours['kind']} and {theirs['name']} on the "
            f"{theirs['kind']}: install what is missing, or hide the accelerator from both"
        )


def check_agreement(kind: str, row: Comparison, here: Side, there: Side) -> dict[str, Any]:
    """Runs the same rounds on both sides, unshuffled, and compares what came of them.

    They have the same first parameters, the same cohorts and the same batches.

    Returns:
      What both sides said.

    Raises:
      DifferentWorkError: they do not agree.
    """
    ours = here.ask(rounds=row.agree_after, shuffle=False, cohorts=None)
    theirs = there.ask(rounds=row.agree_after, shuffle=False, cohorts=ours["cohorts"])
    for name in row.agree_on:
        a, b = (_as_list(answer[name]) for answer in (ours, theirs))
        if len(a) != len(b) or not all(
            math.isclose(x, y, rel_tol=TOLERANCE[kind]) for x, y in zip(a, b, strict=True)
        ):
            raise DifferentWorkError(f"the two sides do different work, {name}: {a} and {b}")
    if not ours["moved"] > 0:
        raise DifferentWorkError("the two sides agree on doing nothing")
    return {
        side: {name: answer[name] for name in row.agree_on}
        for side, answer in zip(SIDES, (ours, theirs), strict=True)
    }


def check_accuracy(rounds: int, here: Side, there: Side) -> dict[str, float]:
    """Trains both sides, shuffled, and returns their accuracies on the test examples.

    Raises:
      DifferentWorkError: they are further apart than the order of examples explains.
    """
    order = {"rounds": rounds, "shuffle": True, "cohorts": None, "evaluate": True}
    ours, theirs = (side.ask(**order)["accuracy"] for side in (here, there))
    if not abs(ours - theirs) <= ACCURACY_TOLERANCE:
        raise DifferentWorkError(f"accuracy after {rounds} rounds: {ours:.4f} and {theirs:.4f}")
    return dict(zip(SIDES, (ours, theirs), strict=True))


def _as_list(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]
