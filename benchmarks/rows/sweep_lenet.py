"""A sweep's members together, seeds by β, against one after another: LeNet with ECGR."""

import statistics

from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.rows import lenet_torch
from benchmarks.work import Federation, Work, images

SMALL = lenet_torch.TASK._replace(batch_size=10, cohort_size=10)
"""Of a hundred clients ten take part, with batches of ten: FedAvg's C = 0.1, E = 1, B = 10."""


def measure(bench: Bench) -> Result:
    """Measures members of 1,280 images a step, which take up much of an accelerator alone."""
    data = lenet_torch.federation(lenet_torch.examples(bench))
    return _measure(bench, lenet_torch.TASK, data)


def measure_small(bench: Bench) -> Result:
    """Measures members of 100 images a step."""
    data = images(100, 60 if bench.quick else 600, (28, 28, 1))
    return _measure(bench, SMALL, data)


def _measure(bench: Bench, task: Work, federation: Federation) -> Result:
    members = 16 if bench.quick else 64
    clients = f"{len(federation.sizes)} × {federation.sizes[0]:,}"
    cohort = f", cohort {task.cohort_size}" if task.cohort_size else ""

    def figure(ours: list[float], theirs: list[float]) -> float:
        return members * statistics.median(t / o for o, t in zip(ours, theirs, strict=True))

    return compare(
        bench,
        Comparison(
            title=f"{members} members of LeNet, {clients}{cohort}, ECGR",
            task=task._replace(members=members),
            federation=federation,
            program="ours",
            targets={"gpu": at_least(15)},
            rounds=2,
            other=task,
            against="one member, times as many, here",
            figure=figure,
            agree_on=("losses", "moved"),
        ),
    )
