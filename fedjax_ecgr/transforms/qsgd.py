r"""QSGD (Alistarh et al., arXiv 1610.02132): entries rounded at random to a few levels.

With s levels, each layer v by itself,

$$Q(v)_i = \|v\|_2\,\mathrm{sign}(v_i)\,\xi_i / s, \qquad \xi_i = \lfloor s|v_i|/\|v\|_2 \rfloor
\text{ or one more,}$$

the latter with the probability that makes it unbiased. A norm and, of each entry, a sign and a
level are sent: 8 bits an entry to 127 levels, 16 beyond (the paper's variable-length code would
send less).
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.transforms.base import Sending, Transform
from fedjax_ecgr.types import Array, PyTree

_MOST = 2**15 - 1


def qsgd(levels: int = 127) -> Transform:
    """Returns the transform that rounds each layer's entries to multiples of its norm / `levels`.

    Args:
      levels: s, from 1 to 32,767; to 127 an entry takes one byte, beyond it two.

    Raises:
      InputError: if the levels are not a whole number in range.

    Example:
      >>> qsgd(levels=4).name
      'qsgd'
    """
    check.count("levels", levels, high=_MOST, why="codes of two bytes")
    code = jnp.int8 if levels <= 127 else jnp.int16

    def update(update: PyTree, state: PyTree, sending: Sending) -> tuple[PyTree, PyTree]:
        leaves, structure = jax.tree.flatten(update)
        keys = jax.random.split(sending.key, max(len(leaves), 1))
        rounded = [_rounded(v, levels, key) for v, key in zip(leaves, keys, strict=False)]
        return jax.tree.unflatten(structure, rounded), state

    def wire(update: PyTree) -> PyTree:
        return jax.tree.map(lambda v: (v.astype(code), jnp.zeros((), v.dtype)), update)

    return Transform("qsgd", {}, lambda params: (), update, wire)


def _rounded(v: Array, levels: int, key: Array) -> Array:
    # by the largest entry first: squares of finite entries overflow, or vanish
    largest = jnp.max(jnp.abs(v), initial=0)
    unit = jnp.abs(v) / jnp.where(largest > 0, largest, 1)
    length = jnp.sqrt(jnp.sum(jnp.square(unit)))
    # a layer of one entry is at the last level, whatever rounding says: there is no code beyond
    scaled = jnp.minimum(unit / jnp.where(length > 0, length, 1) * levels, levels)
    below = jnp.floor(scaled)
    up = jax.random.uniform(key, v.shape, v.dtype) < scaled - below
    return largest * (length * jnp.sign(v) * (below + up.astype(v.dtype)) / levels)
