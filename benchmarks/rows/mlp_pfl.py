"""MLP 784-200-10, 1,000 clients × 50, cohort 50, batch 10, one epoch: against pfl."""

from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.work import Federation, Work, images

TASK = Work("mlp", batch_size=10, learning_rate=0.05, cohort_size=50)


def measure(bench: Bench) -> Result:
    """Measures plain FedAvg."""
    clients = 60 if bench.quick else 1000
    return compare(
        bench,
        Comparison(
            title=f"MLP, {clients:,} × 50, cohort {TASK.cohort_size}",
            task=TASK,
            federation=federation(clients),
            program="pfl_loop",
            targets={"cpu": at_least(6), "gpu": at_least(50)},
            rounds=2 if bench.quick else 20,
        ),
    )


def federation(clients: int) -> Federation:
    """Returns the clients, of 50 examples each."""
    return images(clients, 50, (784,))
