"""A federation of 100,000 clients: what an update costs as the cohort and the devices grow.

Cohorts of 100 to 10,000 train about as many clients in all, each cohort in a fresh process and all
in turn, so that what they take can be compared: an update should cost the same time in each, and no
more memory. Chunks divide every cohort, so that nothing is padded. Then one cohort is laid out over
several devices made of this machine's CPU, which must give the same result.
"""

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import disturbance
from benchmarks.measure import (
    Bench,
    DifferentWorkError,
    Result,
    Target,
    product_rate,
    result,
    start,
)
from benchmarks.programs import wire
from benchmarks.rows.memory import grown
from benchmarks.side import ROOT, Side
from benchmarks.work import Federation, Work, images

TASK = Work("mlp64", batch_size=5, local_epochs=2, learning_rate=0.05, beta=0.2)
LAYOUTS = {
    "scan": TASK._replace(placement="scan"),
    "vmap": TASK._replace(placement="vmap", chunk_size=50),
}
LAYOUTS_OF = {"cpu": ("scan", "vmap"), "gpu": ("vmap",)}
"""Which layouts are measured, by kind of hardware; the target is about the first."""

PLOT = ROOT / "docs" / "scale.png"
MOST = Target("≤ 1.10× both", lambda growth: growth <= 1.1)
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # for many processes on one accelerator
SAME = 1e-5  # how far results may be apart, relatively, over several devices
ENOUGH = 5  # repeats


class Size(NamedTuple):
    """How large everything is.

    Attributes:
      clients: of the federation.
      smaller: clients of other federations, of which the smallest cohort is measured as well.
      cohorts: clients a round.
      updates: clients' rounds that are timed together, in whole rounds.
      shared_cohort: the cohort that is laid out over devices …
      devices: … of which there are so many.
    """

    clients: int
    smaller: tuple[int, ...]
    cohorts: tuple[int, ...]
    updates: int
    shared_cohort: int
    devices: tuple[int, ...]


FULL = Size(100_000, (1_000,), (100, 300, 1_000, 3_000, 10_000), 10_000, 1_000, (1, 2, 4))
QUICK = Size(1_000, (), (50, 100), 200, 100, (2,))


class Case(NamedTuple):
    """What one fresh process does.

    Attributes:
      task: in which layout, with which cohort.
      federation: on which data.
      rounds: rounds that are timed together.
      environment: variables it is started with.
    """

    task: Work
    federation: Federation
    rounds: int
    environment: Mapping[str, str] | None = None


class Taken(NamedTuple):
    """What a case took.

    Attributes:
      clients: of the federation.
      cohort: clients a round.
      seconds: a round, of each repeat.
      update_seconds: a client's round, median.
      compile_seconds: not in `seconds`.
      set_up: seconds of building the federation, the simulation and the first state.
      set_up_bytes: the most memory used by then.
      peak_bytes: the most memory used, that of the compiler included.
      array_bytes: of arrays alone, in a round, as foretold; None where it was not asked for.
      data_bytes: of which for the data.
      train_loss: of the last round.
      moved: ‖w − w_0‖₂ after it.
    """

    clients: int
    cohort: int
    seconds: list[float]
    update_seconds: float
    compile_seconds: float
    set_up: dict[str, float]
    set_up_bytes: int
    peak_bytes: int
    array_bytes: int | None
    data_bytes: int
    train_loss: float
    moved: float


class Turns(NamedTuple):
    """Cases that were measured in turn.

    Attributes:
      taken: what each took.
      rate: operations a second of a matrix product.
      others_share: of the cores, that other processes took meanwhile; None where unknown.
    """

    taken: list[Taken]
    rate: float
    others_share: float | None


def measure(bench: Bench) -> Result:
    """Measures how time and memory grow with the cohort; the worse growth is the figure."""
    size = QUICK if bench.quick else FULL
    data = federation(size.clients)
    turns = {
        layout: in_turn(bench, _cases(layout, size, data))
        for layout in LAYOUTS_OF[bench.kind][: 1 if bench.quick else None]
    }
    devices = over_devices(bench, size, data)
    main, *_ = turns.values()
    count = len(size.cohorts)
    cohorts, smaller = main.taken[:count], main.taken[count:]
    small, large = cohorts[0], cohorts[-1]
    slower = large.update_seconds / small.update_seconds
    bigger = 1 + grown(large._asdict(), small._asdict(), data.num_bytes)
    if large.array_bytes and small.array_bytes:  # the process's holds much else
        bigger = max(bigger, large.array_bytes / small.array_bytes)
    if not bench.quick:
        plot({name: one.taken[:count] for name, one in turns.items()}, PLOT)
    return result(
        bench,
        LAYOUTS[LAYOUTS_OF[bench.kind][0]]._replace(cohort_size=large.cohort),
        data,
        title=f"MLP, {size.clients:,} × 10, cohort {large.cohort:,}, ECGR",
        against=f"cohort {small.cohort}, here",
        ours=large.seconds,
        theirs=small.seconds,
        figure=max(slower, bigger),
        shown=f"an update {slower:.2f}×, memory {bigger:.2f}×",
        target=MOST,
        compile_seconds=large.compile_seconds,
        rate=main.rate,
        peak_bytes={"ours": large.peak_bytes, "theirs": small.peak_bytes},
        others_share=main.others_share,
        details={
            "data_bytes": data.num_bytes,
            "update_seconds_dearest_to_cheapest": _dearest_to_cheapest(cohorts),
            "update_seconds_to_smaller_federations": [
                small.update_seconds / one.update_seconds for one in smaller
            ],
            "cohorts": {
                name: [one._asdict() for one in layout.taken[:count]]
                for name, layout in turns.items()
            },
            "smaller_federations": {
                name: [one._asdict() for one in layout.taken[count:]]
                for name, layout in turns.items()
            },
            "devices": devices,
        },
    )


def federation(clients: int) -> Federation:
    """Returns the clients, of 10 examples with 64 features each."""
    return images(clients, 10, (64,))


def over_devices(bench: Bench, size: Size, data: Federation) -> dict[str, Any]:
    """Measures one cohort one by one and over several devices made of the CPU.

    Returns:
      What each took, by "scan" and number of devices, and how much faster each is than "scan".

    Raises:
      DifferentWorkError: not all come to the same.
    """
    layouts = {"scan": 1} | {str(count): count for count in size.devices}
    cases = [
        Case(
            TASK._replace(
                placement="scan" if name == "scan" else "devices", cohort_size=size.shared_cohort
            ),
            data,
            size.updates // size.shared_cohort,
            {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(count)},
        )
        for name, count in layouts.items()
    ]
    turns = in_turn(bench, cases)
    taken = dict(zip(layouts, turns.taken, strict=True))
    check_same(taken)
    alone = taken["scan"].seconds
    return {
        "taken": {name: one._asdict() for name, one in taken.items()},
        "times_as_fast_as_scan": {
            name: statistics.median(a / b for a, b in zip(alone, one.seconds, strict=True))
            for name, one in taken.items()
        },
        "others_share": turns.others_share,
    }


def check_same(taken: Mapping[str, Taken]) -> None:
    """Raises `DifferentWorkError` unless all come to the first one's loss and parameters."""
    first, *others = taken.items()
    for name, one in others:
        for what in ("train_loss", "moved"):
            a, b = getattr(first[1], what), getattr(one, what)
            if not math.isclose(a, b, rel_tol=SAME):
                raise DifferentWorkError(f"{first[0]} and {name} differ, {what}: {a} and {b}")


def in_turn(bench: Bench, cases: Sequence[Case]) -> Turns:
    """Measures cases in turn, each in a fresh process."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def begin(index: int, case: Case) -> tuple[Side, dict[str, Any], dict[str, Any]]:
            path = folder / f"{index}.npz"
            side = stack.enter_context(
                start(bench, "ours", case.task, case.federation, path, case.environment)
            )
            return side, side.ask(set_up=True), side.ask(**_order(case))

        # several at once only where it does not matter how long they compile
        with ThreadPoolExecutor(wire.cores() if bench.quick else 1) as pool:
            begun = list(pool.map(begin, range(len(cases)), cases))
        sides, set_up, warm = zip(*begun, strict=True)
        before = disturbance.reading()
        timed = [
            [side.ask(**_order(case)) for side, case in zip(sides, cases, strict=True)]
            for _ in range(min(bench.repeats, ENOUGH))
        ]
        others = disturbance.others_share(before, disturbance.reading())
        arrays = [None if bench.quick else side.ask(memory=True)["bytes"] for side in sides]
        rate = product_rate(bench, sides[0])
    taken = map(_taken, cases, set_up, warm, zip(*timed, strict=True), arrays)
    return Turns(list(taken), rate, others)


def plot(layouts: Mapping[str, Sequence[Taken]], path: Path) -> None:
    """Draws an update's time and the peak of memory over the cohort."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time, memory = figure.subplots(1, 2, sharex=True)
    for name, taken in layouts.items():
        cohorts = [one.cohort for one in taken]
        time.plot(cohorts, [1e6 * one.update_seconds for one in taken], marker=".", label=name)
        style = {"marker": ".", "color": time.lines[-1].get_color()}
        memory.plot(
            cohorts, [one.peak_bytes / 1e6 for one in taken], label=f"{name}, process", **style
        )
        arrays = [(one.array_bytes or math.nan) / 1e6 for one in taken]
        memory.plot(cohorts, arrays, linestyle=":", label=f"{name}, arrays", **style)
    data_bytes = next(iter(layouts.values()))[0].data_bytes
    memory.axhline(data_bytes / 1e6, color="grey", linestyle="--", label="data")
    for axes, title in ((time, "a client's update, µs"), (memory, "peak memory, MB")):
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("clients a round")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)


def _cases(layout: str, size: Size, data: Federation) -> list[Case]:
    """Returns the cohorts in a layout, then the smallest one of each smaller federation."""
    what = [(cohort, data) for cohort in size.cohorts]
    what += [(size.cohorts[0], federation(clients)) for clients in size.smaller]
    return [
        Case(LAYOUTS[layout]._replace(cohort_size=cohort), held, size.updates // cohort, SHARED)
        for cohort, held in what
    ]


def _order(case: Case) -> dict[str, Any]:
    return {"rounds": case.rounds, "shuffle": True, "cohorts": None}


def _taken(
    case: Case,
    set_up: Mapping[str, Any],
    warm: Mapping[str, Any],
    timed: Sequence[Mapping[str, Any]],
    array_bytes: int | None,
) -> Taken:
    """Gathers what a process answered to each of its orders."""
    assert case.task.cohort_size is not None
    last = timed[-1]
    if not (math.isfinite(last["moved"]) and last["moved"] > 0):
        raise DifferentWorkError(f"nothing came of {case.task}: moved {last['moved']}")
    seconds = [one["seconds"] / case.rounds for one in timed]
    return Taken(
        clients=len(case.federation.sizes),
        cohort=case.task.cohort_size,
        seconds=seconds,
        update_seconds=statistics.median(seconds) / case.task.cohort_size,
        compile_seconds=warm["compile_seconds"],
        set_up=set_up["seconds"],
        set_up_bytes=set_up["peak_bytes"],
        peak_bytes=last["peak_bytes"],
        array_bytes=array_bytes,
        data_bytes=case.federation.num_bytes,
        train_loss=last["losses"][-1],
        moved=last["moved"],
    )


def _dearest_to_cheapest(taken: Sequence[Taken]) -> float:
    each = [one.update_seconds for one in taken]
    return max(each) / min(each)
