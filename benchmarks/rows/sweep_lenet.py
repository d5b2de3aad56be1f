"""A sweep's members together, seeds by β, against one after another: LeNet with ECGR."""

import statistics

from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.rows import lenet_torch


def measure(bench: Bench) -> Result:
    """Measures members that one program runs against lone runs of a compiled simulation."""
    members = 16 if bench.quick else 64

    def figure(ours: list[float], theirs: list[float]) -> float:
        return members * statistics.median(t / o for o, t in zip(ours, theirs, strict=True))

    return compare(
        bench,
        Comparison(
            title=f"{members} members of LeNet with ECGR",
            task=lenet_torch.TASK._replace(members=members),
            federation=lenet_torch.federation(lenet_torch.examples(bench)),
            program="ours",
            targets={"gpu": at_least(15)},
            rounds=2,
            other=lenet_torch.TASK,
            against="one member, times as many, here",
            figure=figure,
            agree_on=("losses", "moved"),
        ),
    )
