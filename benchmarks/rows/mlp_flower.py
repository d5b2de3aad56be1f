"""The federation of `mlp_pfl` against Flower's simulation engine; there is no target for it."""

from benchmarks.measure import Bench, Comparison, Result, compare
from benchmarks.rows import mlp_pfl

ENOUGH = 3  # repeats: its rounds are slow


def measure(bench: Bench) -> Result:
    """Measures plain FedAvg."""
    clients = 60 if bench.quick else 1000
    return compare(
        bench._replace(repeats=min(bench.repeats, ENOUGH)),
        Comparison(
            title=f"MLP, {clients:,} × 50, cohort {mlp_pfl.TASK.cohort_size}",
            task=mlp_pfl.TASK,
            federation=mlp_pfl.federation(clients),
            program="flower_loop",
            targets={},
            rounds=2 if bench.quick else 5,
        ),
    )
