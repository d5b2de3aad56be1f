"""Federated algorithms, one a file. To list another one is to import it here."""

from typing import TYPE_CHECKING

from fedjax_ecgr.algorithms.adafedprox import adafedprox as adafedprox
from fedjax_ecgr.algorithms.afl import afl as afl
from fedjax_ecgr.algorithms.apfl import apfl as apfl
from fedjax_ecgr.algorithms.base import Algorithm as Algorithm
from fedjax_ecgr.algorithms.base import Batch as Batch
from fedjax_ecgr.algorithms.base import Client as Client
from fedjax_ecgr.algorithms.base import First as First
from fedjax_ecgr.algorithms.base import Local as Local
from fedjax_ecgr.algorithms.base import Outcome as Outcome
from fedjax_ecgr.algorithms.base import Seen as Seen
from fedjax_ecgr.algorithms.base import Server as Server
from fedjax_ecgr.algorithms.base import Trained as Trained
from fedjax_ecgr.algorithms.base import Upload as Upload
from fedjax_ecgr.algorithms.base import algorithm as algorithm
from fedjax_ecgr.algorithms.common import COMMON_DEFAULTS as COMMON_DEFAULTS
from fedjax_ecgr.algorithms.common import Common as Common
from fedjax_ecgr.algorithms.common import LocalCommon as LocalCommon
from fedjax_ecgr.algorithms.ditto import ditto as ditto
from fedjax_ecgr.algorithms.fedacg import fedacg as fedacg
from fedjax_ecgr.algorithms.fedadagrad import fedadagrad as fedadagrad
from fedjax_ecgr.algorithms.fedadam import fedadam as fedadam
from fedjax_ecgr.algorithms.fedala import fedala as fedala
from fedjax_ecgr.algorithms.fedavg import fedavg as fedavg
from fedjax_ecgr.algorithms.fedavgm import fedavgm as fedavgm
from fedjax_ecgr.algorithms.fedbabu import fedbabu as fedbabu
from fedjax_ecgr.algorithms.fedbn import fedbn as fedbn
from fedjax_ecgr.algorithms.feddc import feddc as feddc
from fedjax_ecgr.algorithms.feddyn import feddyn as feddyn
from fedjax_ecgr.algorithms.fedexp import fedexp as fedexp
from fedjax_ecgr.algorithms.fedlc import fedlc as fedlc
from fedjax_ecgr.algorithms.fedlesam import fedlesam as fedlesam
from fedjax_ecgr.algorithms.fednova import fednova as fednova
from fedjax_ecgr.algorithms.fedper import fedper as fedper
from fedjax_ecgr.algorithms.fedprox import fedprox as fedprox
from fedjax_ecgr.algorithms.fedrep import fedrep as fedrep
from fedjax_ecgr.algorithms.fedrs import fedrs as fedrs
from fedjax_ecgr.algorithms.fedsam import fedsam as fedsam
from fedjax_ecgr.algorithms.fedyogi import fedyogi as fedyogi
from fedjax_ecgr.algorithms.fine_tuned import fine_tuned as fine_tuned
from fedjax_ecgr.algorithms.lg_fedavg import lg_fedavg as lg_fedavg
from fedjax_ecgr.algorithms.local_only import local_only as local_only
from fedjax_ecgr.algorithms.mime import mime as mime
from fedjax_ecgr.algorithms.mimelite import mimelite as mimelite
from fedjax_ecgr.algorithms.moon import moon as moon
from fedjax_ecgr.algorithms.perfedavg import perfedavg as perfedavg
from fedjax_ecgr.algorithms.pfedme import pfedme as pfedme
from fedjax_ecgr.algorithms.qfedavg import qfedavg as qfedavg
from fedjax_ecgr.algorithms.scaffold import scaffold as scaffold
from fedjax_ecgr.listing import listing

ALGORITHMS = listing(globals(), Algorithm)
if not TYPE_CHECKING:  # a checker takes all of the above; `fx` shows the factories
    __all__ = [*ALGORITHMS]
