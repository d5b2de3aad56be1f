r"""Label skew as NIID-Bench draws it: Dirichlet proportions, again until nobody is too small.

Source: Li, Diao, Chen, He, "Federated Learning on Non-IID Data Silos: An Experimental Study"
(NIID-Bench), arXiv 2102.02079, "distribution-based label imbalance", as its code draws it. One
class c after another, of n_c examples in random order,

.. math::

  q_c \sim \mathrm{Dir}(α, …, α), \qquad
  \tilde q_{ci} = \frac{q_{ci} [n_i < N / K]}{\sum_j q_{cj} [n_j < N / K]}

with n_i what client i of K has by then: who has an equal share gets no more. The class is cut at
the sums of \tilde q rounded down. All of it is drawn again until every client has the smallest
size. (`dirichlet` draws once and fills small clients up, as the published ECGR runs do.)
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
from fedjax_ecgr.data.partition.dirichlet import draw_shares

_DRAWS = 1000


def niid_dirichlet(
    examples: Examples,
    *,
    num_clients: int,
    alpha: float = 0.5,
    min_size: int = 10,
    seed: int = 0,
) -> FederatedDataset:
    """Divides each class in proportions drawn from Dir(alpha) until nobody is too small.

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      alpha: concentration, above 0.
      min_size: the fewest examples a client may have, at most N / num_clients.
      seed: of all draws.

    Returns:
      The division.

    Raises:
      InputError: if an argument is out of range, or a thousand draws leave somebody too small.

    >>> examples = Examples(np.zeros((90, 2)), np.arange(90) % 3, mean=0.0, std=1.0)
    >>> clients = niid_dirichlet(examples, num_clients=4)
    >>> int(clients.sizes.sum()), int(clients.sizes.min()) >= 10
    (90, True)
    """
    check_division(examples, num_clients, seed)
    labels = one_label_each(examples)
    equal_share = labels.size // num_clients
    why = f"{labels.size} examples over {num_clients} clients"
    count("min_size", min_size, low=0, high=equal_share, why=why)

    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        owners = _draw(rng, labels, num_clients, alpha)
        if np.bincount(owners, minlength=num_clients).min() >= min_size:
            return from_owners(examples, owners, num_clients)
    raise InputError(
        f"min_size: {min_size} is not allowed with alpha {alpha:g}: {_DRAWS} draws left a client "
        "with fewer, take a larger alpha or a smaller size"
    )


def _draw(
    rng: np.random.Generator, labels: np.ndarray, num_clients: int, alpha: float
) -> np.ndarray:
    """Returns [N], each example's client."""
    classes = np.unique(labels)
    owners, sizes = np.empty(labels.shape, np.int64), np.zeros(num_clients, np.int64)
    for label, share in zip(
        classes, draw_shares(rng, alpha, num_clients, classes.size), strict=True
    ):
        rows = rng.permutation(np.flatnonzero(labels == label))
        share = share * (sizes * num_clients < labels.size)
        if not share.sum():  # whoever may still have some drew 0, to rounding
            share = (sizes * num_clients < labels.size) * 1.0
        ends = (np.cumsum(share / share.sum()) * rows.size).astype(np.int64)
        ends[-1] = rows.size
        counts = np.diff(ends, prepend=0)
        owners[rows] = np.repeat(np.arange(num_clients), counts)
        sizes += counts
    return owners
