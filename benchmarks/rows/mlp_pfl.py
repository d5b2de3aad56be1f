"""MLP 784-200-10, 1,000 clients × 50, cohort 50, batch 10, one epoch: against pfl."""

from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.work import Federation, Work, images

TASK = Work("mlp", batch_size=10, learning_rate=0.05, cohort_size=50)


def measure(bench: Bench) -> Result:
    """Measures plain FedAvg."""
    targets = {"cpu": at_least(6), "gpu": at_least(50)}
    return compare(bench, comparison(bench, "pfl_loop")._replace(targets=targets))


def comparison(bench: Bench, program: str, rounds: int = 20) -> Comparison:
    """Returns this federation's comparison with a program, without a target."""
    clients = 60 if bench.quick else 1000
    return Comparison(
        title=f"MLP, {clients:,} × 50, cohort {TASK.cohort_size}",
        task=TASK,
        federation=federation(clients),
        program=program,
        targets={},
        rounds=2 if bench.quick else rounds,
    )


def federation(clients: int) -> Federation:
    """Returns the clients, of 50 examples each."""
    return images(clients, 50, (784,))
