r"""Inner-product manipulation (Xie, Koyejo, Gupta, UAI 2019, arXiv 1903.03936).

All malicious clients send the honest clients' mean the wrong way round,

$$u = -\frac{\varepsilon}{|H|} \sum_{i \in H} u_i,$$

so that what the server aggregates may have a negative inner product with it. The mean of $n$
updates, $m$ of them malicious, turns round for $\varepsilon > (n - m)/m$; robust rules are rather
misled by small $\varepsilon$, which lies close to the honest updates.
"""

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.matrix import Rows
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.attacks.colluding import colluding, mean_of
from fedjax_ecgr.types import Array


def ipm(*, scale: float | Array = 0.5) -> Attack:
    """Returns the attack that sends the honest mean the wrong way round.

    Args:
      scale: ε ≥ 0, by how much it is larger besides.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> ipm(scale=0.1).hyperparameters
      {'scale': 0.1}
    """
    check.number("scale", scale, low=0)
    return Attack("ipm", {"scale": scale}, together=colluding(_ipm))


def _ipm(rows: Rows, attacking: Attacking) -> Array:
    return -attacking.hyperparameters["scale"].astype(rows.values.dtype) * mean_of(rows)
