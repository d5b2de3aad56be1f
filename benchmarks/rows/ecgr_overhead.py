"""What ECGR adds to a round of FedAvg: LeNet, τ = 24 steps; both sides are this project's.

The first round starts both from the same parameters, and no regulator touches its training loss:
that is where they must agree. What they upload then differs, as it should.
"""

import statistics

from benchmarks.measure import Bench, Comparison, Result, Target, compare
from benchmarks.rows import lenet_torch

MOST = Target("≤ 5 % added", lambda added: added <= 0.05)


def measure(bench: Bench) -> Result:
    """Measures ECGR against the plain algorithm."""
    size = lenet_torch.examples(bench)
    return compare(
        bench,
        Comparison(
            title=f"LeNet with ECGR, τ = {-(-size // lenet_torch.TASK.batch_size)}",
            task=lenet_torch.TASK,
            federation=lenet_torch.federation(size),
            program="ours",
            targets={"cpu": MOST, "gpu": MOST},
            rounds=lenet_torch.rounds(bench),
            other=lenet_torch.TASK._replace(beta=None),
            against="FedAvg without it, here",
            figure=added,
            shown="{:+.1%}",
            agree_on=("losses",),
            agree_after=1,
        ),
    )


def added(ours: list[float], theirs: list[float]) -> float:
    """Returns the median over repeats of ours / theirs − 1."""
    return statistics.median(o / t for o, t in zip(ours, theirs, strict=True)) - 1
