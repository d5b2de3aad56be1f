"""Attacks: what malicious clients do, one a file.

To list another one is to import it here.
"""

from fedjax_ecgr.attacks.base import Attack as Attack
from fedjax_ecgr.attacks.base import Attacking as Attacking
from fedjax_ecgr.attacks.boosted import boosted as boosted
from fedjax_ecgr.attacks.fang import fang as fang
from fedjax_ecgr.attacks.gaussian import gaussian as gaussian
from fedjax_ecgr.attacks.ipm import ipm as ipm
from fedjax_ecgr.attacks.label_flip import label_flip as label_flip
from fedjax_ecgr.attacks.lie import lie as lie
from fedjax_ecgr.attacks.min_max import min_max as min_max
from fedjax_ecgr.attacks.sign_flip import sign_flip as sign_flip
from fedjax_ecgr.listing import listing

ATTACKS = listing(globals(), Attack)
