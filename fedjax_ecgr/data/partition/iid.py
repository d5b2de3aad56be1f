"""No heterogeneity: every client draws from the same distribution, the same number of examples."""

import numpy as np

from fedjax_ecgr.data.federated import Examples, FederatedDataset, check_division, from_owners


def iid(examples: Examples, *, num_clients: int, seed: int = 0) -> FederatedDataset:
    """Deals shuffled examples evenly: sizes differ by at most one.

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      seed: of the shuffle.

    Returns:
      The division.

    Raises:
      InputError: if an argument is out of range.

    >>> examples = Examples(np.zeros((7, 2)), np.arange(7) % 2, mean=0.0, std=1.0)
    >>> iid(examples, num_clients=3).sizes
    array([3, 2, 2], dtype=int32)
    """
    check_division(examples, num_clients, seed)
    rng = np.random.default_rng(seed)
    owners = rng.permutation(len(examples.labels)) % num_clients
    return from_owners(examples, owners, num_clients)
