"""Data sets that TensorFlow Datasets' catalogue lacks, as builders of its kind, one a file."""

from collections.abc import Callable, Mapping
from typing import Any


def _lc25000() -> Any:
    from fedjax_ecgr.data.builders.lc25000 import Lc25000  # which imports TensorFlow Datasets

    return Lc25000


BUILDERS: Mapping[str, Callable[[], Any]] = {"lc25000": _lc25000}
"""By name, a function that returns the builder's class."""
