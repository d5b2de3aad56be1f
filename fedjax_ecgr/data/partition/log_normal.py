r"""Quantity skew with a heavy tail: sizes are log-normal, labels are not skewed.

Source: the unbalanced division of Acar, Zhao, Matas, Mattina, Whatmough, Saligrama, "Federated
Learning Based on Dynamic Regularization" (FedDyn), arXiv 2111.04263, whose spread is the default.
Client i of K holds the share

.. math::

  q_i = \frac{\exp(σ z_i)}{\sum_j \exp(σ z_j)}, \qquad z_i \sim N(0, 1)

of the N examples, so that the mean size is N / K for any σ.
"""

import numpy as np

from fedjax_ecgr.check import number
from fedjax_ecgr.data.federated import Examples, FederatedDataset
from fedjax_ecgr.data.partition.sizes import dealt


def log_normal(
    examples: Examples, *, num_clients: int, sigma: float = 0.3, min_size: int = 1, seed: int = 0
) -> FederatedDataset:
    """Deals shuffled examples in sizes `min_size` + q · (N − num_clients · min_size).

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      sigma: standard deviation of the logarithm of a size, at least 0: 0 is even, at 2 one of a
        hundred clients is a hundred times as large as the one in the middle.
      min_size: the fewest examples a client may have, at most N / num_clients; 0 leaves clients
        empty where sigma is large.
      seed: of all draws.

    Returns:
      The division; sizes are rounded by largest remainder.

    Raises:
      InputError: if an argument is out of range.

    >>> examples = Examples(np.zeros((90, 2)), np.arange(90) % 3, mean=0.0, std=1.0)
    >>> clients = log_normal(examples, num_clients=4, sigma=1.0, min_size=3)
    >>> int(clients.sizes.sum()), int(clients.sizes.min()) >= 3
    (90, True)
    """

    def draw(rng: np.random.Generator) -> np.ndarray:
        number("sigma", sigma, low=0.0, single=True)
        # with more one client holds all, too, and differences must be finite
        logarithms = min(sigma, 1e300) * rng.standard_normal(num_clients)
        weights = np.exp(logarithms - logarithms.max())  # at most 1, whatever sigma is
        return weights / weights.sum()

    return dealt(examples, num_clients, min_size, seed, draw)
