"""Federated algorithms, one a file."""

from collections.abc import Callable

from fedjax_ecgr.algorithms.base import (
    COMMON_DEFAULTS,
    Algorithm,
    Batch,
    Client,
    Common,
    First,
    Local,
    Outcome,
    Seen,
    Server,
    Trained,
    Upload,
    algorithm,
    counting_dtype,
)
from fedjax_ecgr.algorithms.fedavg import fedavg
from fedjax_ecgr.algorithms.fednova import fednova
from fedjax_ecgr.algorithms.fedprox import fedprox
from fedjax_ecgr.algorithms.scaffold import scaffold

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "fednova": fednova,
    "scaffold": scaffold,
}

__all__ = [
    "ALGORITHMS",
    "COMMON_DEFAULTS",
    "Algorithm",
    "Batch",
    "Client",
    "Common",
    "First",
    "Local",
    "Outcome",
    "Seen",
    "Server",
    "Trained",
    "Upload",
    "algorithm",
    "counting_dtype",
    "fedavg",
    "fednova",
    "fedprox",
    "scaffold",
]
