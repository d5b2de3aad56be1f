"""Sources of examples: functions that return a `Dataset`. A new one is a file and a line here."""

from collections.abc import Callable

from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.datasets.digits import digits
from fedjax_ecgr.data.datasets.synthetic import synthetic
from fedjax_ecgr.data.federated import Dataset

# What can be had by name alone; `arrays` is not here, for it needs the arrays.
DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "synthetic": synthetic,
}

__all__ = ["DATASETS", "arrays", "digits", "synthetic"]
