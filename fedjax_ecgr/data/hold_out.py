"""Test examples of each client's own, held out of its training examples."""

import numpy as np

from fedjax_ecgr.check import count, number
from fedjax_ecgr.data.federated import FederatedDataset, check_clients, from_assignment


def hold_out(
    clients: FederatedDataset, share: float = 0.25, *, seed: int = 0
) -> tuple[FederatedDataset, FederatedDataset]:
    """Divides every client's examples into those it trains on and those it is judged by.

    A client of n ≥ 2 examples holds out round(share · n) of them at random, at least one and at
    most n − 1; one of a single example keeps it.

    Args:
      clients: the division to split; examples are shared with it, not copied.
      share: in (0, 1), of each client's examples.
      seed: of which ones.

    Returns:
      `(train, test)`, of the same clients.

    Raises:
      InputError: if an argument is out of range.

    >>> from fedjax_ecgr.data.federated import Examples
    >>> examples = Examples(np.zeros((9, 2)), np.arange(9) % 3, mean=0.0, std=1.0)
    >>> train, test = hold_out(from_assignment(examples, [[0, 1, 2, 3], [4], [5, 6, 7, 8]]))
    >>> train.sizes.tolist(), test.sizes.tolist()
    ([3, 1, 3], [1, 0, 1])
    """
    check_clients("clients", clients)
    number("share", share, low=0, high=1, low_open=True, high_open=True)
    count("seed", seed, low=0)
    rng = np.random.default_rng(seed)
    indices, sizes = np.asarray(clients.indices), np.asarray(clients.sizes)
    train, test = [], []
    for row, size in zip(indices, sizes, strict=True):
        held = min(max(round(share * size), 1), size - 1) if size > 1 else 0
        order = rng.permutation(row[:size])
        test.append(np.sort(order[:held]))
        train.append(np.sort(order[held:]))
    return from_assignment(clients.examples, train), from_assignment(clients.examples, test)
