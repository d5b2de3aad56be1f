r"""Random-k sparsification (Stich et al., arXiv 1809.07599): entries drawn evenly are sent.

$$\mathcal C(v)_i = v_i \text{ for } k \text{ indices } i \text{ drawn without replacement, else }
0.$$

With error feedback (see `fedjax_ecgr.transforms.sparse`) the rest is sent later; without it what is
sent is scaled by P / k, which is unbiased. The server can draw the same indices, so that values
alone are sent.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr.transforms.base import Transform
from fedjax_ecgr.transforms.sparse import sparsifying
from fedjax_ecgr.types import Array


def random_k(share: float = 0.01, error_feedback: bool = True) -> Transform:
    """Returns the transform that sends entries of an update that are drawn evenly.

    Args:
      share: k / P, the share of entries that is sent, in (0, 1]; at least one entry is.
      error_feedback: whether a client keeps what it did not send for its next round, which takes P
        numbers for each client; else what is sent is scaled by P / k.

    Raises:
      InputError: if the share is not in (0, 1].

    Example:
      >>> random_k(share=0.1).name
      'random_k'
    """
    return sparsifying(
        "random_k",
        share,
        error_feedback,
        _drawn,
        scale=lambda size, kept: size / kept,
        sends_indices=False,
    )


def _drawn(vector: Array, number: int, key: Array) -> Array:
    draws = jax.random.bits(key, vector.shape, jnp.uint32)
    return jnp.argsort(draws)[:number]
