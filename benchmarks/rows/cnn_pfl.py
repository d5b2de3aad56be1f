"""The CNN of pfl's CIFAR-10 benchmark, 1,000 clients × 50, cohort 50, batch 10: against pfl.

On a CPU both sides only train. An accelerator's target is a whole run: 1,500 rounds with an
evaluation on 10,000 test examples every 10, so there both sides evaluate, too.
"""

import statistics

from benchmarks.measure import Bench, Comparison, Result, Target, at_least, compare
from benchmarks.work import Work, images

TASK = Work("cnn", batch_size=10, learning_rate=0.05, cohort_size=50)
ROUNDS, EVERY = 1500, 10  # of the whole run


def measure(bench: Bench) -> Result:
    """Measures plain FedAvg."""
    clients = 60 if bench.quick else 1000
    task = TASK._replace(cohort_size=5) if bench.quick else TASK
    row = Comparison(
        title=f"pfl's CNN, {clients:,} × 50, cohort {task.cohort_size}",
        task=task,
        federation=images(clients, 50, (32, 32, 3)),
        program="pfl_loop",
        targets={"cpu": at_least(1.3)},
        rounds=1 if bench.quick else 2,
    )
    if bench.kind == "cpu":
        return compare(bench, row)
    return compare(
        bench,
        row._replace(
            title=f"{row.title}, evaluated every {EVERY}",
            task=task._replace(eval_every=EVERY),
            federation=images(clients, 50, (32, 32, 3), tests=10_000),
            targets={"gpu": Target(f"≤ 20 s for {ROUNDS:,}", lambda seconds: seconds <= 20)},
            rounds=EVERY if bench.quick else 10 * EVERY,
            figure=whole_run,
            shown="{:.1f} s",
        ),
    )


def whole_run(ours: list[float], theirs: list[float]) -> float:
    """Returns this project's median seconds for the whole run."""
    return ROUNDS * statistics.median(ours)
