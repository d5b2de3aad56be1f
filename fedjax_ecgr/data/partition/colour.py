r"""Feature shift by colour: each client's camera, light or stain has gains of its own.

Source: the diagonal model of a change of light (von Kries, 1902; Finlayson, Drew, Funt, "Color
constancy: generalized diagonal transforms suffice", JOSA A 11, 1994): every channel c is multiplied
by one number. Client i's are

.. math::

  \tilde x_c = g_{ic} x_c, \qquad g_{ic} \sim U(1 − s, 1 + s).

Clients that differ in scanners or sensors, not in labels, are the feature shift of Li, Jiang,
Zhang, Kamp, Dou, "FedBN", arXiv 2102.07623.
"""

import numpy as np

from fedjax_ecgr.check import number
from fedjax_ecgr.data.federated import Examples, FederatedDataset
from fedjax_ecgr.data.partition.shift import check_images, divided, own_rng, shifted


def colour(
    examples: Examples,
    *,
    num_clients: int,
    strength: float = 0.5,
    alpha: float | None = None,
    seed: int = 0,
) -> FederatedDataset:
    """Divides images evenly, then multiplies each channel by a gain of each client's own.

    uint8 inputs are rounded and clipped to their range. Images of one channel differ in brightness.
    A client's gains depend on the seed and its own number only.

    Args:
      examples: the N examples to divide, images of shape (height, width, channels).
      num_clients: number of clients, at most N.
      strength: in [0, 1]: gains are even in [1 - strength, 1 + strength].
      alpha: concentration of a Dirichlet division that comes first, as in `dirichlet`; None deals
        examples evenly, as `iid` does.
      seed: of all draws.

    Returns:
      The division, of a copy of the examples whose inputs have other colours.

    Raises:
      InputError: if an argument is out of range, or inputs are not such images.

    >>> examples = Examples(np.ones((4, 2, 2, 3)), np.arange(4) % 2, mean=0.0, std=1.0)
    >>> clients = colour(examples, num_clients=2, strength=0.5)
    >>> gains = clients.examples.inputs[clients.indices[:, 0], 0, 0]
    >>> gains.shape, bool((abs(gains - 1) <= 0.5).all()), bool((gains[0] != gains[1]).all())
    ((2, 3), True, True)
    """
    number("strength", strength, low=0.0, high=1.0, single=True)
    clients = divided(examples, num_clients, alpha, seed)
    _, _, channels = check_images(examples)

    def coloured(client: int, images: np.ndarray) -> np.ndarray:
        gains = own_rng(seed, client).uniform(1 - strength, 1 + strength, channels)
        return images.astype(np.float64) * gains

    return shifted(clients, coloured)
