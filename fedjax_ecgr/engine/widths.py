"""Few widths, so that another division of the data is, mostly, the same compiled program."""

import jax.numpy as jnp
import numpy as np

from fedjax_ecgr.data.federated import FederatedDataset

_BITS = 3


def padded(data: FederatedDataset, batch_size: int) -> FederatedDataset:
    """Returns the data with room for a number of batches that few divisions differ in.

    A program is compiled for the largest client's number of local steps, which changes with every
    seed of a partition. So there is room for 1 to 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, … of them:
    up to a quarter more (5 % on average), which takes memory, and time only where shapes do.
    What is computed stays the same.

    Args:
      data: the clients' data.
      batch_size: examples a local step.
    """
    width = data.indices.shape[1]
    batch_size = min(batch_size, _few(width))
    room = _few(-(-width // batch_size)) * batch_size
    pad = np.pad if isinstance(data.indices, np.ndarray) else jnp.pad
    return data._replace(indices=pad(data.indices, ((0, 0), (0, room - width))))


def _few(number: int) -> int:
    """Returns the next number of no more than so many binary digits, and zeros behind them."""
    shift = max(0, (number - 1).bit_length() - _BITS)
    return -(-number // 2**shift) * 2**shift
