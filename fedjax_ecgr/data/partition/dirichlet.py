r"""Label skew: each class is divided among the clients in Dirichlet proportions.

Source: Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated
Visual Classification", arXiv 1909.06335; per class as in Yurochkin et al., arXiv 1905.12022, and
with the smallest size of the published ECGR runs (arXiv 2601.03584). For a class c of n_c examples

.. math::

  q_c \sim \mathrm{Dir}(α, …, α), \qquad n_{ic} = \lfloor n_c q_{ci} \rfloor

Two things the rule leaves open are settled here. The fewer than `num_clients` examples of a class
that rounding down leaves over go, one each, to the clients that lost the largest fractions by it,
so that no example is lost and no share is off by one or more. And clients below the smallest size
are filled up by examples that are taken, one at a time, from the client that is the largest then.
"""

import bisect

import numpy as np

from fedjax_ecgr.check import count, number
from fedjax_ecgr.data.federated import (
    Examples,
    FederatedDataset,
    check_division,
    from_owners,
    one_label_each,
)

_PUBLISHED_MIN_SIZE = 256


def dirichlet(
    examples: Examples,
    *,
    num_clients: int,
    alpha: float = 0.1,
    min_size: int | None = None,
    seed: int = 0,
) -> FederatedDataset:
    """Divides each class in proportions drawn from Dir(alpha), then fills small clients up.

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      alpha: concentration, above 0. Towards 0 each class goes to one client; large values
        approach equal shares of every class.
      min_size: the fewest examples a client may have, at most N / num_clients; 0 leaves clients
        empty. None takes the published 256 or, on less data, a quarter of an equal share (at least
        1), because filling up to an equal share would wash the skew out.
      seed: of all draws.

    Returns:
      The division.

    Raises:
      InputError: if an argument is out of range.

    >>> examples = Examples(np.zeros((90, 2)), np.arange(90) % 3, mean=0.0, std=1.0)
    >>> clients = dirichlet(examples, num_clients=4, alpha=0.1, seed=0)
    >>> int(clients.sizes.sum()), int(clients.sizes.min()) >= 5
    (90, True)
    """
    check_division(examples, num_clients, seed)
    labels = one_label_each(examples)
    equal_share = labels.size // num_clients
    if min_size is None:
        min_size = min(_PUBLISHED_MIN_SIZE, max(1, equal_share // 4))
    why = f"{labels.size} examples over {num_clients} clients"
    count("min_size", min_size, low=0, high=equal_share, why=why)

    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    owners = np.empty(labels.shape, np.int64)
    for label, share in zip(
        classes, draw_shares(rng, alpha, num_clients, classes.size), strict=True
    ):
        rows = np.flatnonzero(labels == label)
        owners[rng.permutation(rows)] = np.repeat(
            np.arange(num_clients), apportion(rows.size, share)
        )
    return from_owners(examples, _fill_up(rng, owners, num_clients, min_size), num_clients)


def draw_shares(rng: np.random.Generator, alpha: float, num_clients: int, draws: int) -> np.ndarray:
    """Draws [draws, num_clients] shares from the symmetric Dir(alpha); each row sums to 1."""
    number("alpha", alpha, low=0.0, low_open=True, single=True)
    alpha = min(float(alpha), 1e300)  # shares by more are as equal, and the sum of all is finite
    return rng.dirichlet(np.full(num_clients, alpha), draws)


def apportion(total: int, shares: np.ndarray) -> np.ndarray:
    """Divides `total` whole things by `shares`, rounding by largest remainder: the sum is exact."""
    quotas = total * shares
    counts = np.floor(quotas).astype(np.int64)
    most_lost = np.argsort(counts - quotas, kind="stable")
    counts[most_lost[: total - counts.sum()]] += 1
    return counts


def _fill_up(
    rng: np.random.Generator, owners: np.ndarray, num_clients: int, min_size: int
) -> np.ndarray:
    """Moves random examples of the largest clients to those below `min_size`, in client order."""
    sizes = np.bincount(owners, minlength=num_clients)
    missing = np.maximum(min_size - sizes, 0)
    given = sizes - _take_from_largest(sizes, missing.sum())
    shuffled = rng.permutation(owners.size)
    by_client = shuffled[np.argsort(owners[shuffled], kind="stable")]
    rank = np.arange(owners.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    moved = by_client[rank < np.repeat(given, sizes)]
    filled = owners.copy()
    filled[moved] = np.repeat(np.arange(num_clients), missing)
    return filled


def _take_from_largest(sizes: np.ndarray, total: int) -> np.ndarray:
    """Returns `sizes` after `total` times taking one from the largest, the first one on a tie.

    That levels the largest: all above some level come down to it, and the first of those at the
    level give one more until `total` is reached.
    """

    def reachable(level: int) -> bool:
        return bool(np.maximum(sizes - level, 0).sum() <= total)

    level = bisect.bisect_left(range(int(sizes.max()) + 1), True, key=reachable)
    lowered = np.minimum(sizes, level)
    at_level = np.flatnonzero(lowered == level)
    lowered[at_level[: total - (sizes - lowered).sum()]] -= 1
    return lowered
