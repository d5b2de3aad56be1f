"""Peak memory of a cohort of 10 and of all 1,000 clients, at a fixed chunk, with ECGR.

The federation is the same, so that the cohort alone differs. An MLP's update takes 0.6 MB: kept for
each client of the cohort, the updates alone would more than double what the process holds.
"""

import math
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import (
    Bench,
    DifferentWorkError,
    Result,
    Target,
    product_rate,
    result,
    start,
)
from benchmarks.rows import mlp_pfl
from benchmarks.work import Federation, Work

TASK = mlp_pfl.TASK._replace(beta=0.2, placement="vmap", chunk_size=10)
SMALL = 10
MOST = Target("≤ 10 % more", lambda growth: growth <= 0.1)
ENOUGH = 5  # repeats: they hardly differ


class Used(NamedTuple):
    """What one fresh process used, and how fast it was.

    Attributes:
      answer: to the order that was measured.
      rate: operations a second of a matrix product, asked for afterwards.
    """

    answer: dict[str, Any]
    rate: float


def measure(bench: Bench) -> Result:
    """Measures the growth of the peak, less the data, each time in fresh processes."""
    clients = 100 if bench.quick else 1000
    federation = mlp_pfl.federation(clients)
    small, large = (TASK._replace(cohort_size=size) for size in (SMALL, clients))
    pairs = [
        (use(bench, large, federation), use(bench, small, federation))
        for _ in range(min(bench.repeats, ENOUGH))
    ]
    growth = statistics.median(
        grown(large.answer, small.answer, federation.num_bytes) for large, small in pairs
    )
    ours, theirs = ([pair[side].answer["seconds"] for pair in pairs] for side in (0, 1))
    return result(
        bench,
        large,
        federation,
        title=f"memory, cohort {clients:,} of {clients:,}, chunk {TASK.chunk_size}",
        against=f"cohort {SMALL}, here",
        ours=ours,
        theirs=theirs,
        figure=growth,
        shown=f"{growth:+.1%}",
        target=MOST,
        compile_seconds=pairs[0][0].answer["compile_seconds"],
        rate=pairs[-1][0].rate,
        peak_bytes={
            name: int(statistics.median(pair[side].answer["peak_bytes"] for pair in pairs))
            for side, name in enumerate(("ours", "theirs"))
        },
        others_share=None,  # memory does not mind
        details={
            "data_bytes": federation.num_bytes,
            "peaks": [[used.answer["peak_bytes"] for used in pair] for pair in pairs],
        },
    )


def use(bench: Bench, task: Work, federation: Federation) -> Used:
    """Runs one round in a fresh process.

    Raises:
      DifferentWorkError: not the cohort that was asked for took part, or nothing came of it.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        start(bench, "ours", task, federation, Path(folder) / "task.npz") as here,
    ):
        answer = here.ask(rounds=1, shuffle=True, cohorts=None)
        rate = product_rate(bench, here)
    if len(set(answer["cohorts"][0])) != task.cohort_size or not math.isfinite(answer["moved"]):
        raise DifferentWorkError(f"no round with a cohort of {task.cohort_size}: {answer}")
    return Used(answer, rate)


def grown(large: dict[str, Any], small: dict[str, Any], data_bytes: int) -> float:
    """Returns by how much of the small cohort's peak the large one's is larger, less the data."""
    return (large["peak_bytes"] - data_bytes) / (small["peak_bytes"] - data_bytes) - 1
