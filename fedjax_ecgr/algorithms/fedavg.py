r"""FedAvg (McMahan et al., arXiv 1602.05629).

$$w_{t+1} = w_t - \sum_{i\in S_t} p_i u_i, \qquad u_i = \sum_{\lambda=1}^{\tau_i} d_\lambda,
\qquad p_i = n_i \Big/ \sum_{j\in S_t} n_j$$

with $d_\lambda$ the clients' SGD steps. It is the algorithm that the others are variations of, so
there is nothing to state here but its name.
"""

from typing import Unpack

from fedjax_ecgr.algorithms.base import Algorithm, Common, algorithm


def fedavg(**common: Unpack[Common]) -> Algorithm:
    """Returns FedAvg: local SGD, updates averaged by number of examples.

    Args:
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedavg(learning_rate=0.1).hyperparameters["momentum"]
      0.9
    """
    return algorithm("fedavg", common)
