"""Max-pooling with a fast gradient, and PyTorch's: to the first of the largest values."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

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
    return _first_largest(inputs, inputs.shape, axes)


def largest(inputs: Array, axes: Axes) -> tuple[Array, Array]:
    """Returns the maximum over `axes`, and where it first stands along them in reading order.

    The gradient of the maximum is that of `first_largest`.
    """
    return first_largest(inputs, axes), _reduced(lax.stop_gradient(inputs), axes)[1]


# Autodiff's gradient of a maximum splits ties evenly. Value and position come out of one reduction
# because XLA computes a reduction once, where it repeats an elementwise maximum in every operation
# that reads it.
@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _first_largest(inputs: Array, shape: Shape, axes: Axes) -> Array:
    return _reduced(inputs, axes)[0]


def _forward(inputs: Array, shape: Shape, axes: Axes) -> tuple[Array, Array]:
    return largest(inputs, axes)


def _backward(shape: Shape, axes: Axes, position: Array, gradient: Array) -> tuple[Array]:
    position, gradient = (jnp.expand_dims(x, axes) for x in (position, gradient))
    zero = jnp.zeros((), gradient.dtype)
    return (jnp.where(position == _positions(shape, axes), gradient, zero),)


_first_largest.defvjp(_forward, _backward)


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
