"""Label skew: each client holds k classes.

Source: the "pathological" division of McMahan et al., arXiv 1602.05629 (sort by label, cut into k
shards a client, deal them), in the form of NIID-Bench, arXiv 2102.02079 ("#C = k": deal classes,
then divide each class among those that hold it). In McMahan's form two shards of a client may be of
one class and a shard may straddle two classes, so clients hold from 1 to 2k classes; in
NIID-Bench's a class that nobody is dealt is lost. Here each client holds exactly k, and no example
is lost, because the classes are dealt evenly.
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


def shards(
    examples: Examples, *, num_clients: int, classes_per_client: int = 2, seed: int = 0
) -> FederatedDataset:
    """Deals every client exactly `classes_per_client` classes, each class divided evenly.

    One client after another gets the classes that the fewest clients hold so far, at random among
    equals, so the numbers of clients that hold a class differ by at most one. The examples of a
    class are shuffled and dealt to its holders; their numbers differ by at most one. Where classes
    are of unequal sizes, so are clients.

    Args:
      examples: the N examples to divide, of C classes.
      num_clients: number of clients, at most N.
      classes_per_client: classes each client holds, from C / num_clients (rounded up), so that
        every class is dealt, to C.
      seed: of all draws.

    Returns:
      The division.

    Raises:
      InputError: if an argument is out of range, or a class has fewer examples than holders.

    >>> examples = Examples(np.zeros((90, 2)), np.arange(90) % 3, mean=0.0, std=1.0)
    >>> clients = shards(examples, num_clients=3, classes_per_client=2)
    >>> [np.unique(examples.labels[rows]).size for rows in clients.indices]
    [2, 2, 2]
    """
    check_division(examples, num_clients, seed)
    labels = one_label_each(examples)
    classes = np.unique(labels)
    why = f"{classes.size} classes over {num_clients} clients"
    least = -(-classes.size // num_clients)
    count("classes_per_client", classes_per_client, low=least, high=classes.size, why=why)

    rng = np.random.default_rng(seed)
    hands = _deal(rng, num_clients, classes.size, classes_per_client)
    owners = to_holders(rng, labels, hands)
    return from_owners(examples, owners, num_clients)


def to_holders(rng: np.random.Generator, labels: np.ndarray, hands: np.ndarray) -> np.ndarray:
    """Divides each class evenly, at random, among the clients that hold it.

    Args:
      rng: of the draws.
      labels: [N].
      hands: [num_clients, k], the distinct classes that each client holds, as places in
        `np.unique(labels)`; every class is in some hand.

    Returns:
      [N], each example's client.

    Raises:
      InputError: if a class has fewer examples than holders.
    """
    owners = np.empty(labels.shape, np.int64)
    for i, label in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == label)
        holders, _ = np.nonzero(hands == i)
        if rows.size < holders.size:
            raise InputError(
                f"classes_per_client: {hands.shape[1]} is not allowed, it must leave each "
                f"holder of a class an example (class {label}: {rows.size} examples, "
                f"{holders.size} holders)"
            )
        owners[rng.permutation(rows)] = np.resize(rng.permutation(holders), rows.size)
    return owners


def _deal(rng: np.random.Generator, num_clients: int, num_classes: int, k: int) -> np.ndarray:
    """Returns [num_clients, k]: for each client k distinct classes, those least held so far."""
    holders = np.zeros(num_classes, np.int64)
    hands = np.empty((num_clients, k), np.int64)
    for hand in hands:
        hand[:] = np.lexsort((rng.random(num_classes), holders))[:k]
        holders[hand] += 1
    return hands
