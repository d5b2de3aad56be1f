"""LeNet on 28×28×1, 10 clients, batch 128, ECGR: against a plain PyTorch loop over clients."""

from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.work import Federation, Work, images

CLIENTS = 10
TASK = Work("lenet", batch_size=128, learning_rate=0.01, momentum=0.9, beta=0.2)


def measure(bench: Bench) -> Result:
    """Measures ECGR under FedAvg, 24 steps a client and round."""
    size = examples(bench)
    return compare(
        bench,
        Comparison(
            title=f"LeNet, {CLIENTS} × {size:,}, ECGR",
            task=TASK,
            federation=federation(size),
            program="torch_loop",
            targets={"cpu": at_least(1.5), "gpu": at_least(30)},
            rounds=rounds(bench),
        ),
    )


def examples(bench: Bench) -> int:
    """Returns the examples a client."""
    return 384 if bench.quick else 3000


def rounds(bench: Bench) -> int:
    """Returns how many rounds are worth timing together."""
    return 10 if bench.kind == "gpu" and not bench.quick else 1


def federation(size: int) -> Federation:
    """Returns the clients, of `size` examples each."""
    return images(CLIENTS, size, (28, 28, 1))
