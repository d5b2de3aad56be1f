"""What ECGR adds where local training is short: the MLP of `mlp_pfl`, τ = 5 steps of 10 examples.

A step computes little for the 159,010 parameters whose delta it leaves: the deltas are written
once and read twice, and their products with one another are most of what ECGR costs then. Clients
one after another on one device, and the same work in a plain PyTorch loop with ECGR.
"""

import statistics

from benchmarks.measure import Bench, Comparison, Result, Target, compare
from benchmarks.rows import mlp_pfl

TASK = mlp_pfl.TASK._replace(cohort_size=20, beta=0.2, placement="scan")
MOST = Target("≤ 2×", lambda times: times <= 2)


def measure(bench: Bench) -> Result:
    """Measures a round with ECGR in rounds of FedAvg without it; both sides are this project's."""
    return compare(
        bench,
        _row(bench)._replace(
            program="ours",
            targets={"cpu": MOST},
            other=TASK._replace(beta=None),
            against="FedAvg without it, here",
            figure=times_as_long,
            shown="{:.2f}× as long",
            agree_on=("losses",),  # of the first round, which no regulator has touched
            agree_after=1,
        ),
    )


def measure_torch(bench: Bench) -> Result:
    """Measures it against a PyTorch loop with ECGR."""
    return compare(bench, _row(bench))


def _row(bench: Bench) -> Comparison:
    clients = 60 if bench.quick else 1000
    return Comparison(
        title=f"MLP with ECGR, τ = 5, {clients:,} × 50, cohort {TASK.cohort_size}",
        task=TASK,
        federation=mlp_pfl.federation(clients),
        program="torch_loop",
        targets={},
        rounds=2 if bench.quick else 10,
    )


def times_as_long(ours: list[float], theirs: list[float]) -> float:
    """Returns the median over repeats of ours / theirs."""
    return statistics.median(o / t for o, t in zip(ours, theirs, strict=True))
