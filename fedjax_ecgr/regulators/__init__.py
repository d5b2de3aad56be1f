"""Regulators: what may stand between a client's local steps and its upload, one a file.

To list another one is to import it here.
"""

from typing import TYPE_CHECKING

from fedjax_ecgr.listing import listing
from fedjax_ecgr.regulators.adaptive_ecgr import FEEDBACKS as FEEDBACKS
from fedjax_ecgr.regulators.adaptive_ecgr import adaptive_ecgr as adaptive_ecgr
from fedjax_ecgr.regulators.base import Given as Given
from fedjax_ecgr.regulators.base import Regulator as Regulator
from fedjax_ecgr.regulators.base import Replay as Replay
from fedjax_ecgr.regulators.ecgr import STORAGES as STORAGES
from fedjax_ecgr.regulators.ecgr import ecgr as ecgr
from fedjax_ecgr.regulators.identity import identity as identity
from fedjax_ecgr.regulators.norm_clip import norm_clip as norm_clip
from fedjax_ecgr.regulators.online_ecgr import online_ecgr as online_ecgr
from fedjax_ecgr.regulators.reaggregation import ECGRInfo as ECGRInfo
from fedjax_ecgr.regulators.reaggregation import reaggregate as reaggregate
from fedjax_ecgr.regulators.selection import RULES as RULES
from fedjax_ecgr.regulators.selection import Selection as Selection
from fedjax_ecgr.regulators.selection import select as select

REGULATORS = listing(globals(), Regulator)
if not TYPE_CHECKING:  # a checker takes all of the above; `fx` shows the factories
    __all__ = [*REGULATORS]
