"""The streams of randomness, folded into a key; none may be another's.

Of a run's key: `INIT`, `MALICIOUS` and `DEVICES` last for the run, every other number is a round.
Of a round's key: the server's are the largest, every other number is a client. Those of one client
in one round begin with its trainings, counted from 0.
"""

import jax
import numpy as np

from fedjax_ecgr.types import AnyArray, Array

_LAST = 2**32 - 1

# of a run
INIT, MALICIOUS, DEVICES = (np.uint32(_LAST - i) for i in range(3))

# of a round
COHORT, SYSTEM, AGGREGATOR, ATTACK, LOSSES = (np.uint32(_LAST - i) for i in range(5))
EVALUATION = np.uint32(_LAST - 9)

# of a client in a round
TRANSFORM, CLIENT_ATTACK = 2**31, 2**31 + 1


# of all runs, whatever JAX's default is: others may draw other numbers for clients that run at once
# than for each alone
IMPL = "threefry2x32"


def root(seed: int | AnyArray) -> Array:
    """Returns the key of a run."""
    return jax.random.key(seed, impl=IMPL)
