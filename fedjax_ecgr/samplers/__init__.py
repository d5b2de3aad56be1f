"""Samplers: who takes part in a round, one a file.

To list another one is to import it here.
"""

from fedjax_ecgr.listing import listing
from fedjax_ecgr.samplers.availability import availability as availability
from fedjax_ecgr.samplers.base import Sampler as Sampler
from fedjax_ecgr.samplers.by_size import by_size as by_size
from fedjax_ecgr.samplers.power_of_choice import power_of_choice as power_of_choice
from fedjax_ecgr.samplers.uniform import uniform as uniform

SAMPLERS = listing(globals(), Sampler)
