r"""Multi-Krum (Blanchard, El Mhamdi, Guerraoui, Stainer, NeurIPS 2017, arXiv 1703.02757).

The mean of the $m$ updates with the smallest Krum scores $s(i)$ (see `krum`); $m = 1$ is Krum,
$m = n$ the mean. By default $m = n - f$, as many as are honest.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_ecgr.aggregators.base import Aggregator, Received
from fedjax_ecgr.aggregators.distances import squared_distances, typical_size
from fedjax_ecgr.aggregators.krum import NEED, scores
from fedjax_ecgr.aggregators.matrix import Rows, average, by_rows
from fedjax_ecgr.aggregators.tolerance import check_whole, checker, tolerated
from fedjax_ecgr.check import InputError
from fedjax_ecgr.types import Array


def multi_krum(
    *, num_malicious: float | Array = 1, num_selected: float | Array | None = None
) -> Aggregator:
    """Returns the rule that averages the updates that are nearest to most others.

    Args:
      num_malicious: f, how many clients of a cohort are taken for malicious, with n ≥ 2 f + 3.
        Where fewer clients are present it counts as the largest number that those carry.
      num_selected: m, how many updates are averaged, at most as many as are present; by default all
        but f.

    Raises:
      InputError: if one is not a whole number, or too small.

    Example:
      >>> multi_krum(num_malicious=2, num_selected=3).hyperparameters
      {'num_malicious': 2, 'num_selected': 3}
    """
    check_whole("num_malicious", num_malicious)
    numbers: dict[str, Any] = {"num_malicious": num_malicious}
    if num_selected is not None:
        check_whole("num_selected", num_selected, low=1)
        numbers["num_selected"] = num_selected
    carries = checker("multi_krum", num_malicious, NEED)

    def check(cohort_size: int) -> None:
        carries(cohort_size)
        if num_selected is not None and np.max(np.asarray(num_selected)) > cohort_size:
            raise InputError(
                f"num_selected: {np.max(np.asarray(num_selected)):g} is not allowed, it must be at "
                f"most {cohort_size} (the clients of a cohort)"
            )

    return Aggregator("multi_krum", numbers, lambda params: (), by_rows(_multi_krum), check)


def _multi_krum(rows: Rows, received: Received) -> Array:
    n, numbers = rows.num_present, received.hyperparameters
    f = tolerated(numbers["num_malicious"], n, NEED)
    m = n - f
    if "num_selected" in numbers:
        m = jnp.clip(jnp.round(numbers["num_selected"]).astype(n.dtype), 1, n)
    distances = squared_distances(rows, typical_size(rows))
    order = jnp.argsort(scores(distances, rows.present, n - f - 2))
    chosen = jnp.zeros(order.shape, bool).at[order].set(jnp.arange(order.size, dtype=jnp.int32) < m)
    dtype = rows.values.dtype
    return average(rows.values, chosen.astype(dtype) / jnp.maximum(m, 1).astype(dtype))
