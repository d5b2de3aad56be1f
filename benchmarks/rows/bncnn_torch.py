"""The 6-convolution BatchNorm CNN on 32×32×3, 2 clients, batch 128: against a PyTorch loop."""

from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.work import Work, images

CLIENTS = 2
TASK = Work("bncnn", batch_size=128, learning_rate=0.001, momentum=0.9)


def measure(bench: Bench) -> Result:
    """Measures FedAvg, 10 steps a client and round."""
    size = 128 if bench.quick else 1280
    return compare(
        bench,
        Comparison(
            title=f"BatchNorm CNN, {CLIENTS} × {size:,}",
            task=TASK._replace(batch_size=32) if bench.quick else TASK,
            federation=images(CLIENTS, size, (32, 32, 3)),
            program="torch_loop",
            targets={"cpu": at_least(1.0), "gpu": at_least(10)},
            rounds=10 if bench.kind == "gpu" and not bench.quick else 1,
        ),
    )
