"""Transforms: what a client does to its update before it sends it, one a file.

To list another one is to import it here.
"""

from fedjax_ecgr.listing import listing
from fedjax_ecgr.transforms.base import Sending as Sending
from fedjax_ecgr.transforms.base import Transform as Transform
from fedjax_ecgr.transforms.base import from_optax as from_optax
from fedjax_ecgr.transforms.clip import clip as clip
from fedjax_ecgr.transforms.dp_fedavg import dp_fedavg as dp_fedavg
from fedjax_ecgr.transforms.privacy import epsilon as epsilon
from fedjax_ecgr.transforms.qsgd import qsgd as qsgd
from fedjax_ecgr.transforms.random_k import random_k as random_k
from fedjax_ecgr.transforms.top_k import top_k as top_k

TRANSFORMS = listing(globals(), Transform)
