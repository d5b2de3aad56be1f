"""Systems: what clients' devices manage in a round, and how long it takes, one a file."""

from collections.abc import Callable

from fedjax_ecgr.systems.base import System as System
from fedjax_ecgr.systems.heterogeneous import heterogeneous as heterogeneous
from fedjax_ecgr.systems.ideal import ideal as ideal

SYSTEMS: dict[str, Callable[..., System]] = {"ideal": ideal, "heterogeneous": heterogeneous}
