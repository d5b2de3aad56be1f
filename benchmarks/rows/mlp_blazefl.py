"""The federation of `mlp_pfl` against BlazeFL's pool of threads; there is no target for it."""

from benchmarks.measure import Bench, Result, compare
from benchmarks.rows import mlp_pfl


def measure(bench: Bench) -> Result:
    """Measures plain FedAvg."""
    row = mlp_pfl.comparison(bench, "blazefl_loop")
    return compare(bench, row._replace(agree_on=("moved",)))  # it reports no losses
