r"""Quantity skew: clients hold different numbers of examples of the same distribution.

Source: NIID-Bench (Li, Diao, Chen, He), arXiv 2102.02079, "quantity skew": sizes in the proportions

.. math::

  q \sim \mathrm{Dir}(α, …, α).

There a draw is repeated until no client is too small; here each client gets its smallest size
first and the proportions divide the rest, which takes one draw for any α.
"""

import numpy as np

from fedjax_ecgr.data.federated import Examples, FederatedDataset
from fedjax_ecgr.data.partition.dirichlet import draw_shares
from fedjax_ecgr.data.partition.sizes import dealt


def quantity(
    examples: Examples, *, num_clients: int, alpha: float = 0.5, min_size: int = 1, seed: int = 0
) -> FederatedDataset:
    """Deals shuffled examples in sizes `min_size` + Dir(alpha) · (N − num_clients · min_size).

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      alpha: concentration, above 0. Towards 0 one client gets all but the smallest sizes; large
        values approach equal sizes.
      min_size: the fewest examples a client may have, at most N / num_clients; 0 leaves clients
        empty.
      seed: of all draws.

    Returns:
      The division; sizes are rounded by largest remainder.

    Raises:
      InputError: if an argument is out of range.

    >>> examples = Examples(np.zeros((90, 2)), np.arange(90) % 3, mean=0.0, std=1.0)
    >>> clients = quantity(examples, num_clients=4, alpha=0.5, min_size=3)
    >>> int(clients.sizes.sum()), int(clients.sizes.min()) >= 3
    (90, True)
    """

    def draw(rng: np.random.Generator) -> np.ndarray:
        (share,) = draw_shares(rng, alpha, num_clients, 1)
        return share

    return dealt(examples, num_clients, min_size, seed, draw)
