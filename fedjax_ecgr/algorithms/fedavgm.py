r"""FedAvgM (Hsu, Qi, Brown, arXiv 1909.06335).

The server has heavy-ball momentum: it goes on in the directions of earlier rounds, which damps what
a cohort of unlike clients pulls to either side,

$$v_{t+1} = \beta v_t + \sum_{i\in S_t} p_i u_i, \qquad w_{t+1} = w_t - \eta_s v_{t+1},
\qquad v_0 = 0.$$

In the long run that is $1 / (1 - \beta)$ times as far a round as FedAvg's.
"""

from typing import Unpack

import optax

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import Algorithm, Common, algorithm
from fedjax_ecgr.types import Array, Hyperparameters


def fedavgm(*, server_momentum: float | Array = 0.9, **common: Unpack[Common]) -> Algorithm:
    """Returns FedAvgM, FedAvg with momentum on the server.

    Args:
      server_momentum: β in [0, 1), how much of a direction is left in the next round; 0 is FedAvg.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`; but for
        the server's optimizer, which this is.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedavgm(server_momentum=0.5).hyperparameters["server_momentum"]
      0.5
    """
    check.number("server_momentum", server_momentum, low=0, high=1, high_open=True)
    own = {"server_momentum": server_momentum}
    return algorithm("fedavgm", common, own=own, server_optimizer=_heavy_ball)


def _heavy_ball(hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    return optax.sgd(
        hyperparameters["server_learning_rate"], momentum=hyperparameters["server_momentum"]
    )
