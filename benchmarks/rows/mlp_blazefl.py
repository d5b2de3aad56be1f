"""The federation of `mlp_pfl` against BlazeFL's pool of threads; there is no target for it."""

from benchmarks.measure import Bench, Comparison, Result, compare
from benchmarks.rows import mlp_pfl


def measure(bench: Bench) -> Result:
    """Measures plain FedAvg."""
    clients = 60 if bench.quick else 1000
    return compare(
        bench,
        Comparison(
            title=f"MLP, {clients:,} × 50, cohort {mlp_pfl.TASK.cohort_size}",
            task=mlp_pfl.TASK,
            federation=mlp_pfl.federation(clients),
            program="blazefl_loop",
            targets={},
            rounds=2 if bench.quick else 20,
            agree_on=("moved",),  # it reports no losses
        ),
    )
