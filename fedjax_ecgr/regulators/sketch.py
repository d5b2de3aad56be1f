r"""Sketches: short vectors that keep inner products on average.

A count sketch (Charikar, Chen and Farach-Colton, 2002) adds up the entries of a vector, each with a
random sign $\sigma_i = \pm 1$, in $m$ buckets: $s_j(x) = \sum_{i:\,h(i)=j} \sigma_i x_i$. Over
the signs,

$$\mathbb E\,\langle s(x), s(y)\rangle = \langle x, y\rangle, \qquad
\operatorname{Var} = \sum_{i\ne j,\ h(i)=h(j)} x_i^2 y_j^2 + x_i y_i x_j y_j
\approx \frac{\|x\|^2 \|y\|^2 + \langle x, y\rangle^2}{m}$$

whatever the buckets; the last step takes large entries to be spread over them evenly. Here
$h(i) = i \bmod m$, a sum of rows, which is quicker than a random $h$ and adds up in a fixed order
on every device. Layers mostly have even widths, so that an odd $m$ keeps the weights of one unit
out of one bucket. With $m$ no less than the length inner products are exact.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr.types import Array


def draw_flips(key: Array, length: int) -> Array:
    """Returns which entries change sign, [length] bool: one byte an entry."""
    words = jax.random.bits(key, (-(-length // 32),), jnp.uint32)
    bits = words[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None]
    return (bits & 1).astype(bool).ravel()[:length]


def sketch(flips: Array, size: int, vector: Array, first: int = 0) -> Array:
    """Returns the sketch of a vector; one pass over it.

    The sketch of a vector in parts is the sum of theirs.

    Args:
      flips: [length] bool, from `draw_flips`; vectors to be compared share them.
      size: m, from 1; static.
      vector: [length].
      first: where it stands in the vector that it is a part of; static.

    Returns:
      [size].

    Example:
      >>> flips = draw_flips(jax.random.key(0), 3)
      >>> s = sketch(flips, 3, jnp.array([1.0, 2.0, 3.0]))
      >>> float(s @ s)
      14.0
    """
    signed = jnp.where(flips, -vector, vector)
    before = first % size
    whole = jnp.pad(signed, (before, -(before + vector.size) % size))
    return whole.reshape(-1, size).sum(axis=0)
