"""Max-pooling with a fast gradient, and PyTorch's: to the first of the largest values."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching

from fedjax_ecgr.ops.primitives import primitive
from fedjax_ecgr.types import Array

Shape = tuple[int, ...]
Axes = tuple[int, ...]


def max_pool(inputs: Array) -> Array:
    """Takes the maximum of every 2 × 2 window: [B, H, W, C] → [B, H // 2, W // 2, C].

    An odd last row or column is dropped. As in PyTorch, the gradient goes to the first of a
    window's largest values, in reading order.
    """
    batch, height, width, channels = inputs.shape
    height, width = height // 2, width // 2
    inputs = inputs[:, : 2 * height, : 2 * width]
    return first_largest(inputs.reshape(batch, height, 2, width, 2, channels), (2, 4))


def first_largest(inputs: Array, axes: Axes) -> Array:
    """Returns the maximum over `axes`; the gradient goes to the first of the largest values."""
    (outputs,) = _maximum.bind(inputs, axes=axes)
    return outputs


def largest(inputs: Array, axes: Axes) -> tuple[Array, Array]:
    """Returns the maximum over `axes`, and where it first stands along them in reading order.

    The gradient of the maximum is that of `first_largest`.
    """
    return first_largest(inputs, axes), _reduced(lax.stop_gradient(inputs), axes)[1]


def _reduced(inputs: Array, axes: Axes) -> tuple[Array, Array]:
    lowest, first = jnp.array(-jnp.inf, inputs.dtype), jnp.int32(0)
    return lax.reduce((inputs, _positions(inputs.shape, axes)), (lowest, first), _larger, axes)


def _larger(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """Returns the (value, position) of larger value, or the earlier; NaN is the largest of all."""
    larger = (a[0] > b[0]) | (jnp.isnan(a[0]) & ~jnp.isnan(b[0]))
    chosen = larger | ((a[0] == b[0]) & (a[1] < b[1]))
    return jnp.where(chosen, a[0], b[0]), jnp.where(chosen, a[1], b[1])


def _positions(shape: Shape, axes: Axes) -> Array:
    """Returns where each entry stands along `axes`, in reading order: int32 of this shape."""
    places = jnp.zeros(shape, jnp.int32)
    for axis in axes:
        places = places * shape[axis] + lax.broadcasted_iota(jnp.int32, shape, axis)
    return places


def _tangent(
    primals: Sequence[Array], tangents: Sequence[Array], axes: Axes
) -> tuple[list[Array], list[Array]]:
    (inputs,), (tangent,) = primals, tangents
    outputs, position = largest(inputs, axes)
    here = jnp.expand_dims(position, axes) == _positions(inputs.shape, axes)
    return [outputs], [jnp.sum(jnp.where(here, tangent, jnp.zeros((), tangent.dtype)), axes)]


def _mapped(
    args: Sequence[Array], mapped: Sequence[int], axes: Axes
) -> tuple[list[Array], list[int]]:
    inputs = jnp.moveaxis(args[0], mapped[0], 0)
    return [first_largest(inputs, tuple(axis + 1 for axis in axes))], [0]


# Autodiff's gradient of a maximum splits ties evenly. Value and position come out of one reduction
# because XLA computes a reduction once, where it repeats an elementwise maximum in every operation
# that reads it. A primitive and no `jax.custom_jvp`, whose rule is lost where a scan is
# differentiated twice.
_maximum = primitive("first_largest", lambda inputs, axes: (_reduced(inputs, axes)[0],))
ad.primitive_jvps[_maximum] = _tangent
batching.primitive_batchers[_maximum] = _mapped
