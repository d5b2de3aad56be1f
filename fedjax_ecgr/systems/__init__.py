"""Systems: what clients' devices manage in a round, and how long it takes, one a file.

To list another one is to import it here.
"""

from fedjax_ecgr.listing import listing
from fedjax_ecgr.systems.base import System as System
from fedjax_ecgr.systems.heterogeneous import heterogeneous as heterogeneous
from fedjax_ecgr.systems.ideal import ideal as ideal

SYSTEMS = listing(globals(), System)
