r"""FedAvg, then every client tunes the result on its own data.

Training is FedAvg's. Client i is judged by

$$\theta_i = w_t - \sum_\lambda d_\lambda,$$

where its SGD has come from the global parameters after some passes over its own examples, with the
step size of the round that would be next. Nothing of that is sent or kept. Wang et al., arXiv
1910.10252, and Cheng et al., arXiv 2108.07313, study how far this goes by itself.
"""

from typing import Unpack

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.base import Algorithm, Client, Common, Local, algorithm
from fedjax_ecgr.types import PyTree


def fine_tuned(*, epochs: int = 1, **common: Unpack[Common]) -> Algorithm:
    """Returns FedAvg whose clients are judged by the global model tuned on their own data.

    Args:
      epochs: passes over its examples that a client tunes for.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fine_tuned(epochs=5).name
      'fine_tuned'
    """
    check.count("epochs", epochs)

    def personal(client: Client, local: Local) -> tuple[PyTree, PyTree]:
        del local
        tuned = client.train(epochs=epochs, regulate=False)
        return tuned.params, tuned.batch_stats

    return algorithm("fine_tuned", common, personal=personal)
