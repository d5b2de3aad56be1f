"""Federated algorithms, one a file."""

from collections.abc import Callable

from fedjax_ecgr.algorithms.adafedprox import adafedprox
from fedjax_ecgr.algorithms.afl import afl
from fedjax_ecgr.algorithms.apfl import apfl
from fedjax_ecgr.algorithms.base import (
    COMMON_DEFAULTS,
    Algorithm,
    Batch,
    Client,
    Common,
    First,
    Local,
    LocalCommon,
    Outcome,
    Seen,
    Server,
    Trained,
    Upload,
    algorithm,
    counting_dtype,
)
from fedjax_ecgr.algorithms.ditto import ditto
from fedjax_ecgr.algorithms.fedacg import fedacg
from fedjax_ecgr.algorithms.fedadagrad import fedadagrad
from fedjax_ecgr.algorithms.fedadam import fedadam
from fedjax_ecgr.algorithms.fedavg import fedavg
from fedjax_ecgr.algorithms.fedavgm import fedavgm
from fedjax_ecgr.algorithms.fedbn import fedbn
from fedjax_ecgr.algorithms.feddc import feddc
from fedjax_ecgr.algorithms.feddyn import feddyn
from fedjax_ecgr.algorithms.fedexp import fedexp
from fedjax_ecgr.algorithms.fedlc import fedlc
from fedjax_ecgr.algorithms.fedlesam import fedlesam
from fedjax_ecgr.algorithms.fednova import fednova
from fedjax_ecgr.algorithms.fedper import fedper
from fedjax_ecgr.algorithms.fedprox import fedprox
from fedjax_ecgr.algorithms.fedrep import fedrep
from fedjax_ecgr.algorithms.fedrs import fedrs
from fedjax_ecgr.algorithms.fedsam import fedsam
from fedjax_ecgr.algorithms.fedyogi import fedyogi
from fedjax_ecgr.algorithms.fine_tuned import fine_tuned
from fedjax_ecgr.algorithms.lg_fedavg import lg_fedavg
from fedjax_ecgr.algorithms.local_only import local_only
from fedjax_ecgr.algorithms.mime import mime
from fedjax_ecgr.algorithms.mimelite import mimelite
from fedjax_ecgr.algorithms.moon import moon
from fedjax_ecgr.algorithms.perfedavg import perfedavg
from fedjax_ecgr.algorithms.pfedme import pfedme
from fedjax_ecgr.algorithms.qfedavg import qfedavg
from fedjax_ecgr.algorithms.scaffold import scaffold

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "fednova": fednova,
    "scaffold": scaffold,
    "fedbn": fedbn,
    "fedlesam": fedlesam,
    "feddc": feddc,
    "mimelite": mimelite,
    "mime": mime,
    "moon": moon,
    "fedsam": fedsam,
    "fedrs": fedrs,
    "fedlc": fedlc,
    "feddyn": feddyn,
    "fedavgm": fedavgm,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedadagrad": fedadagrad,
    "fedexp": fedexp,
    "qfedavg": qfedavg,
    "afl": afl,
    "fedacg": fedacg,
    "adafedprox": adafedprox,
    "local_only": local_only,
    "fine_tuned": fine_tuned,
    "ditto": ditto,
    "apfl": apfl,
    "pfedme": pfedme,
    "perfedavg": perfedavg,
    "fedper": fedper,
    "fedrep": fedrep,
    "lg_fedavg": lg_fedavg,
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
    "LocalCommon",
    "Outcome",
    "Seen",
    "Server",
    "Trained",
    "Upload",
    "adafedprox",
    "afl",
    "algorithm",
    "apfl",
    "counting_dtype",
    "fedacg",
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "fedbn",
    "feddc",
    "feddyn",
    "fedexp",
    "fedlc",
    "fedlesam",
    "fednova",
    "fedper",
    "fedprox",
    "fedrep",
    "fedrs",
    "fedsam",
    "fedyogi",
    "lg_fedavg",
    "local_only",
    "mime",
    "mimelite",
    "moon",
    "perfedavg",
    "pfedme",
    "qfedavg",
    "scaffold",
]
