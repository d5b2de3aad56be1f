r"""Feature shift by noise: from client to client, inputs are noisier.

Source: Li, Diao, Chen, He, "Federated Learning on Non-IID Data Silos: An Experimental Study"
(NIID-Bench), arXiv 2102.02079, section IV, "noise-based feature imbalance": examples are divided
at random and evenly; then each input of client i = 1 .. K gets noise of its own,

.. math::

  \tilde x = x + ε, \qquad ε \sim N(0, σ i / K),

where σ i / K is a variance and pixels are in [0, 1]. (Its code has the standard deviation
σ (i − 1) / (K − 1) instead, and draws the noise anew in each pass; here it is drawn once.)
"""

import math

import numpy as np

from fedjax_ecgr.check import number
from fedjax_ecgr.data.federated import Examples, FederatedDataset
from fedjax_ecgr.data.partition.shift import divided, full_scale, own_rng, shifted


def noise(
    examples: Examples,
    *,
    num_clients: int,
    sigma: float = 0.1,
    alpha: float | None = None,
    seed: int = 0,
) -> FederatedDataset:
    """Divides examples evenly, then adds noise of variance sigma · i / num_clients to client i's.

    uint8 inputs are rounded and clipped to their range; floating ones are not. A client's noise
    depends on the seed, its own number and its number of examples only.

    Args:
      examples: the N examples to divide.
      num_clients: number of clients, at most N.
      sigma: variance of the last client's noise, at least 0, of uint8 inputs whose largest value is
        taken as 1, or of floating inputs as they are.
      alpha: concentration of a Dirichlet division that comes first, as in `dirichlet`; None deals
        examples evenly, as `iid` does.
      seed: of all draws.

    Returns:
      The division, of a copy of the examples whose inputs are noisy.

    Raises:
      InputError: if an argument is out of range.

    >>> examples = Examples(np.zeros((900, 2)), np.arange(900) % 3, mean=0.0, std=1.0)
    >>> clients = noise(examples, num_clients=3, sigma=0.3)
    >>> [round(float(clients.examples.inputs[rows].var()), 1) for rows in clients.indices]
    [0.1, 0.2, 0.3]
    """
    number("sigma", sigma, low=0.0, single=True)
    clients = divided(examples, num_clients, alpha, seed)
    scale = full_scale(np.asarray(examples.inputs))

    def noisy(client: int, inputs: np.ndarray) -> np.ndarray:
        deviation = math.sqrt(sigma * (client + 1) / num_clients)
        draws = own_rng(seed, client).standard_normal(inputs.shape)
        return inputs.astype(np.float64) + scale * deviation * draws

    return shifted(clients, noisy)
