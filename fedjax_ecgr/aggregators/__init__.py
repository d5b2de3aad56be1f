"""Aggregators: what the server makes of all updates of a cohort, one a file.

To list another one is to import it here.
"""

from fedjax_ecgr.aggregators.base import Aggregator as Aggregator
from fedjax_ecgr.aggregators.base import Received as Received
from fedjax_ecgr.aggregators.bulyan import bulyan as bulyan
from fedjax_ecgr.aggregators.centred_clipping import centred_clipping as centred_clipping
from fedjax_ecgr.aggregators.geometric_median import geometric_median as geometric_median
from fedjax_ecgr.aggregators.krum import krum as krum
from fedjax_ecgr.aggregators.median import median as median
from fedjax_ecgr.aggregators.multi_krum import multi_krum as multi_krum
from fedjax_ecgr.aggregators.trimmed_mean import trimmed_mean as trimmed_mean
from fedjax_ecgr.listing import listing

AGGREGATORS = listing(globals(), Aggregator)
