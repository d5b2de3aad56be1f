r"""What the sparsifying transforms share: few entries sent, the rest remembered.

With error feedback (Stich et al., arXiv 1809.07599; Karimireddy et al., arXiv 1901.09847) a client
keeps what it did not send and adds it to its next update,

$$v = u + e, \qquad \hat u = \mathcal C(v), \qquad e \leftarrow v - \hat u,$$

so that nothing is lost, only late. Without it $\hat u = \mathcal C(u)$.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedjax_ecgr import check
from fedjax_ecgr.transforms.base import Sending, Transform
from fedjax_ecgr.types import Array, PyTree

Choose = Callable[[Array, int, Array], Array]
"""`(vector [P], k, key) -> [k]`, the indices of the entries that are sent."""


def sparsifying(
    name: str,
    share: float,
    error_feedback: bool,
    choose: Choose,
    *,
    scale: Callable[[int, int], float] = lambda size, kept: 1.0,
    sends_indices: bool,
) -> Transform:
    """Returns a transform that sends the entries chosen.

    Args:
      name: what reports call it.
      share: of all entries, in (0, 1]; rounded up to a whole number of them.
      error_feedback: whether what is not sent is kept for the next round.
      choose: which entries are sent.
      scale: `(P, k) -> factor` on what is sent, where nothing is kept for later.
      sends_indices: whether indices go over the wire, or the server can draw them itself.

    Raises:
      InputError: if the share is not in (0, 1].
    """
    check.number("share", share, low=0, high=1, low_open=True)

    def kept(size: int) -> int:
        # a share of 0.3 of 10 entries is 3, though 0.3 · 10 may be rounded above it
        return max(1, math.ceil(share * size * (1 - 1e-9)))

    def init(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, params) if error_feedback else ()

    def update(update: PyTree, state: PyTree, sending: Sending) -> tuple[PyTree, PyTree]:
        if error_feedback:
            update = jax.tree.map(jnp.add, update, state)
        vector, unravel = ravel_pytree(update)
        size = vector.shape[0]
        indices = choose(vector, kept(size), sending.key)
        sent = jnp.zeros_like(vector).at[indices].set(vector[indices])
        if error_feedback:
            return unravel(sent), unravel(vector - sent)
        return unravel(sent * jnp.asarray(scale(size, kept(size)), sent.dtype)), state

    def wire(update: PyTree) -> PyTree:
        vector, _ = ravel_pytree(update)
        values = vector[: kept(vector.shape[0])]
        return (values, jnp.zeros(values.shape, jnp.int32)) if sends_indices else values

    return Transform(name, {}, init, update, wire)
