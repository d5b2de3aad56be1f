"""Regulators: what may stand between a client's local steps and its upload."""

from collections.abc import Callable

from fedjax_ecgr.regulators.base import Given, Regulator, Replay
from fedjax_ecgr.regulators.ecgr import ECGRInfo, Selection, ecgr, reaggregate, select
from fedjax_ecgr.regulators.identity import identity

REGULATORS: dict[str, Callable[..., Regulator]] = {
    "identity": identity,
    "ecgr": ecgr,
}

__all__ = [
    "REGULATORS",
    "ECGRInfo",
    "Given",
    "Regulator",
    "Replay",
    "Selection",
    "ecgr",
    "identity",
    "reaggregate",
    "select",
]
