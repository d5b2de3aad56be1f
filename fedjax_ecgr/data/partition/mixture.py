"""Label skew of a stated similarity: a share of each client's examples is IID, the rest sorted.

Source: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD", arXiv 1910.06378, section 7:
for s % similarity, s % of the examples are dealt IID and the others are sorted by label and cut
into one piece a client, after Hsu, Qi, Brown, arXiv 1909.06335. The paper has 0, 10 and 100 %.
"""

import numpy as np

from fedjax_ecgr.check import number
from fedjax_ecgr.data.federated import (
    Examples,
    FederatedDataset,
    check_division,
    from_owners,
    one_label_each,
)


def mixture(
    examples: Examples, *, num_clients: int, similarity: float = 0.1, seed: int = 0
) -> FederatedDataset:
    """Deals a share of the examples evenly, then the others, sorted by label, in one piece each.

    Which client gets which piece is random. Sizes differ by at most one, and so do the numbers of
    examples that are dealt evenly.

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      similarity: share of the examples that is dealt evenly, in [0, 1]: 1 is IID, and at 0 clients
        hold one class or a few.
      seed: of all draws.

    Returns:
      The division.

    Raises:
      InputError: if an argument is out of range.

    >>> examples = Examples(np.zeros((90, 2)), np.arange(90) % 3, mean=0.0, std=1.0)
    >>> clients = mixture(examples, num_clients=3, similarity=0.0)
    >>> [np.unique(examples.labels[rows]).size for rows in clients.indices]
    [1, 1, 1]
    """
    check_division(examples, num_clients, seed)
    number("similarity", similarity, low=0.0, high=1.0, single=True)
    labels = one_label_each(examples)
    alike = round(similarity * labels.size)

    rng = np.random.default_rng(seed)
    rows = rng.permutation(labels.size)
    rest = rows[alike:]
    turns = np.arange(labels.size) % num_clients
    pieces = np.bincount(turns[alike:], minlength=num_clients)
    order = rng.permutation(num_clients)
    owners = np.empty(labels.shape, np.int64)
    owners[rows[:alike]] = turns[:alike]
    owners[rest[np.argsort(labels[rest], kind="stable")]] = np.repeat(order, pieces[order])
    return from_owners(examples, owners, num_clients)
