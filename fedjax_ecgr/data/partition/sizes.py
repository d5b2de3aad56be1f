"""What partitions by size share: clients of drawn sizes, whose labels are not skewed."""

from collections.abc import Callable

import numpy as np

from fedjax_ecgr.check import count
from fedjax_ecgr.data.federated import Examples, FederatedDataset, check_division, from_owners
from fedjax_ecgr.data.partition.dirichlet import apportion


def dealt(
    examples: Examples,
    num_clients: int,
    min_size: int,
    seed: int,
    draw: Callable[[np.random.Generator], np.ndarray],
) -> FederatedDataset:
    """Deals shuffled examples in sizes `min_size` + share · (N − num_clients · min_size).

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      min_size: the fewest examples a client may have, at most N / num_clients.
      seed: of all draws.
      draw: returns the clients' shares, which sum to 1.

    Raises:
      InputError: if a number is out of range.
    """
    check_division(examples, num_clients, seed)
    total = len(examples.labels)
    why = f"{total} examples over {num_clients} clients"
    count("min_size", min_size, low=0, high=total // num_clients, why=why)

    rng = np.random.default_rng(seed)
    sizes = min_size + apportion(total - num_clients * min_size, draw(rng))
    owners = rng.permutation(np.repeat(np.arange(num_clients), sizes))
    return from_owners(examples, owners, num_clients)
