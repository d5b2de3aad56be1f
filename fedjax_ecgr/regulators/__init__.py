"""Regulators: what may stand between a client's local steps and its upload."""

from collections.abc import Callable

from fedjax_ecgr.regulators.base import Given, Regulator, Replay
from fedjax_ecgr.regulators.ecgr import STORAGES, ecgr
from fedjax_ecgr.regulators.identity import identity
from fedjax_ecgr.regulators.reaggregation import ECGRInfo, reaggregate
from fedjax_ecgr.regulators.selection import RULES, Selection, select

REGULATORS: dict[str, Callable[..., Regulator]] = {
    "identity": identity,
    "ecgr": ecgr,
}

__all__ = [
    "REGULATORS",
    "RULES",
    "STORAGES",
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
