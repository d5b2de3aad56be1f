r"""Top-k sparsification (Aji and Heafield, arXiv 1704.05021): the largest entries are sent.

$$\mathcal C(v)_i = v_i \text{ if } |v_i| \text{ is among the } k \text{ largest, else } 0.$$

Over the whole update, with error feedback (see `fedjax_ecgr.transforms.sparse`). A value and an
int32 index are sent of each entry.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr.transforms.base import Transform
from fedjax_ecgr.transforms.sparse import sparsifying
from fedjax_ecgr.types import Array


def top_k(share: float = 0.01, error_feedback: bool = True) -> Transform:
    """Returns the transform that sends the largest entries of an update.

    Args:
      share: k / P, the share of entries that is sent, in (0, 1]; at least one entry is.
      error_feedback: whether a client keeps what it did not send for its next round, which takes P
        numbers for each client.

    Raises:
      InputError: if the share is not in (0, 1].

    Example:
      >>> top_k(share=0.1).name
      'top_k'
    """
    return sparsifying("top_k", share, error_feedback, _largest, sends_indices=True)


def _largest(vector: Array, number: int, key: Array) -> Array:
    del key
    return jax.lax.top_k(jnp.abs(vector), number)[1]
