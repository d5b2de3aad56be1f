"""The 6-convolution BatchNorm CNN on 32×32×3, 2 clients, batch 128: against a PyTorch loop."""

from benchmarks.measure import Bench, Comparison, Result, Target, at_least, compare
from benchmarks.work import Work, images

CLIENTS = 2
TASK = Work("bncnn", batch_size=128, learning_rate=0.001, momentum=0.9)


def measure(bench: Bench) -> Result:
    """Measures FedAvg, 10 steps a client and round, against PyTorch as it is."""
    return _measure(bench, TASK, "PyTorch loop", {"cpu": at_least(1.0), "gpu": at_least(10)})


def measure_channels_last(bench: Bench) -> Result:
    """Measures the same against PyTorch with images' channels together, where it is fastest."""
    task = TASK._replace(channels_last=True)
    return _measure(bench, task, "PyTorch loop, channels last", {})


def _measure(bench: Bench, task: Work, against: str, targets: dict[str, Target]) -> Result:
    size = 128 if bench.quick else 1280
    return compare(
        bench,
        Comparison(
            title=f"BatchNorm CNN, {CLIENTS} × {size:,}",
            task=task._replace(batch_size=32) if bench.quick else task,
            federation=images(CLIENTS, size, (32, 32, 3)),
            program="torch_loop",
            targets=targets,
            against=against,
            rounds=10 if bench.kind == "gpu" and not bench.quick else 1,
        ),
    )
