"""The division the data came with: by writer, by hospital, by whoever owns each example."""

import numpy as np

from fedjax_ecgr.check import InputError, part
from fedjax_ecgr.data.federated import Examples, FederatedDataset, check_whole, from_owners


def natural(
    examples: Examples, *, num_clients: int | None = None, seed: int = 0
) -> FederatedDataset:
    """Gives each example to its owner: client i holds the examples with `owners` i.

    Args:
      examples: the N examples to divide; `owners` must be set, to numbers from 0.
      num_clients: the expected number of clients, one more than the highest owner, or None.
      seed: taken so that all partitions are called alike; nothing is drawn.

    Returns:
      The division.

    Raises:
      InputError: if `owners` are None or below 0, or `num_clients` is not their number.

    >>> labels, owners = np.array([0, 1, 2]), np.array([1, 0, 1])
    >>> examples = Examples(np.zeros((3, 2)), labels, mean=0.0, std=1.0, owners=owners)
    >>> natural(examples).sizes
    array([1, 2], dtype=int32)
    """
    del seed
    part("examples", examples, Examples, "Examples, such as those of a dataset, data.train")
    if examples.owners is None:
        raise InputError(
            "owners: None is not allowed, a natural partition needs examples with owners "
            "(synthetic has them; or arrays with train_owners)"
        )
    owners = np.asarray(examples.owners)
    check_whole("owners", owners, (len(examples.labels),))
    clients = int(owners.max(initial=-1)) + 1
    if num_clients is not None and num_clients != clients:
        raise InputError(
            f"num_clients: {num_clients!r} is not allowed, it must be {clients}, "
            "the number of owners"
        )
    return from_owners(examples, owners, clients)
