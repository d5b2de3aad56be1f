"""The federation of `mlp_pfl` against Flower's simulation engine; there is no target for it."""

from benchmarks.measure import Bench, Result, compare
from benchmarks.rows import mlp_pfl

ENOUGH = 3  # repeats: its rounds are slow


def measure(bench: Bench) -> Result:
    """Measures plain FedAvg."""
    repeats = min(bench.repeats, ENOUGH)
    row = mlp_pfl.comparison(bench, "flower_loop", rounds=5)
    return compare(bench._replace(repeats=repeats), row)
