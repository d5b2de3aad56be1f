"""Label skew as NIID-Bench deals it: each client holds a class of its own and k - 1 others.

Source: Li, Diao, Chen, He, "Federated Learning on Non-IID Data Silos: An Experimental Study"
(NIID-Bench), arXiv 2102.02079, "quantity-based label imbalance" (#C = k), as its code draws it.
Client i holds class i mod C and k - 1 others, at random and without regard to who holds them
already; each class is divided evenly among those who hold it. So one client may have several times
the examples of another, where `shards`, which deals the classes evenly, gives all as many.

There a class that nobody holds is lost. Here all hands are dealt again until every class is held,
as it always is with as many clients as classes or more.
"""

import numpy as np

from fedjax_ecgr.check import InputError, count
from fedjax_ecgr.data.federated import (
    Examples,
    FederatedDataset,
    check_division,
    from_owners,
    one_label_each,
)
from fedjax_ecgr.data.partition.shards import to_holders

_DRAWS = 1000


def niid_classes(
    examples: Examples, *, num_clients: int, classes_per_client: int = 2, seed: int = 0
) -> FederatedDataset:
    """Deals every client its own class and `classes_per_client` - 1 random ones.

    Args:
      examples: the N examples to divide, of C classes.
      num_clients: number of clients, at most N.
      classes_per_client: classes each client holds, from C / num_clients (rounded up), so that
        every class can be dealt, to C.
      seed: of all draws.

    Returns:
      The division.

    Raises:
      InputError: if an argument is out of range, a class has fewer examples than holders, or a
        thousand deals leave a class to nobody.

    >>> examples = Examples(np.zeros((90, 2)), np.arange(90) % 3, mean=0.0, std=1.0)
    >>> clients = niid_classes(examples, num_clients=3, classes_per_client=2)
    >>> [i in examples.labels[rows] for i, rows in enumerate(clients.indices)]
    [True, True, True]
    """
    check_division(examples, num_clients, seed)
    labels = one_label_each(examples)
    classes = np.unique(labels).size
    why = f"{classes} classes over {num_clients} clients"
    least = -(-classes // num_clients)
    count("classes_per_client", classes_per_client, low=least, high=classes, why=why)

    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        hands = _deal(rng, num_clients, classes, classes_per_client)
        if np.unique(hands).size == classes:
            return from_owners(examples, to_holders(rng, labels, hands), num_clients)
    raise InputError(
        f"classes_per_client: {classes_per_client} is not allowed with {why}: {_DRAWS} deals left "
        "a class to nobody, take more classes or clients"
    )


def _deal(rng: np.random.Generator, num_clients: int, num_classes: int, k: int) -> np.ndarray:
    """Returns [num_clients, k]: for each client its own class, then k - 1 others."""
    order = rng.random((num_clients, num_classes))
    clients = np.arange(num_clients)
    order[clients, clients % num_classes] = -1.0
    return np.argsort(order, axis=1)[:, :k]
