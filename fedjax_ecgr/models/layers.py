"""The layers of the built-in models: pure functions that start and compute as PyTorch's do.

Images are [B, H, W, C], kernels [kh, kw, I, O] and [in, out]. Everything is computed in the
parameters' dtype.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.models.base import Array, PyTree
from fedjax_ecgr.models.convolution import LAYOUT, conv_general_dilated

MOMENTUM = 0.1
EPSILON = 1e-5


def dense_init(key: Array, inputs: int, outputs: int, dtype: Any) -> PyTree:
    """Draws {"kernel" [inputs, outputs], "bias" [outputs]} from U(±1/√inputs)."""
    return _uniform(key, (inputs, outputs), (outputs,), dtype)


def dense(params: PyTree, inputs: Array) -> Array:
    """Returns inputs @ kernel + bias: [B, in] → [B, out]."""
    return inputs @ params["kernel"] + params["bias"][None]


def conv_init(
    key: Array, kernel: int, inputs: int, outputs: int, dtype: Any, *, bias: bool = True
) -> PyTree:
    """Draws {"kernel" [kernel, kernel, inputs, outputs], "bias" [outputs]} from U(±1/√fan_in).

    The fan-in is kernel·kernel·inputs.
    """
    return _uniform(key, (kernel, kernel, inputs, outputs), (outputs,) if bias else None, dtype)


def conv(params: PyTree, inputs: Array, padding: str | Sequence[tuple[int, int]]) -> Array:
    """Convolves with stride 1: [B, H, W, I] → [B, H', W', O]; a bias is added if there is one."""
    outputs = conv_general_dilated(
        inputs, params["kernel"], (1, 1), padding, dimension_numbers=LAYOUT
    )
    return outputs + params["bias"][None, None, None] if "bias" in params else outputs


def batch_norm_init(channels: int, dtype: Any) -> tuple[PyTree, PyTree]:
    """Returns ({"scale" 1, "bias" 0}, {"mean" 0, "var" 1}), each [channels]."""
    zeros, ones = jnp.zeros(channels, dtype), jnp.ones(channels, dtype)
    return {"scale": ones, "bias": zeros}, {"mean": zeros, "var": ones}


def batch_norm(
    params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool
) -> tuple[Array, PyTree]:
    """Batch normalisation (Ioffe and Szegedy, 2015), in PyTorch's convention.

    A batch is normalised by its mean and biased variance; running ← 0.9·running + 0.1·batch, where
    the variance is the unbiased one. Rows that are masked count for nothing. Where no value is
    left the statistics stay, and where only one is the variance does, having no estimate.

    Args:
      params: {"scale", "bias"}, each [C].
      stats: {"mean", "var"}, each [C].
      inputs: [B, H, W, C].
      mask: [B] bool, false at rows that do not count.
      train: whether to normalise by the batch, else by the running statistics.

    Returns:
      Normalised inputs and the new running statistics.
    """
    if not train:
        return _normalize(params, stats["mean"], stats["var"], inputs), stats
    # A masked row may hold anything, so it is selected away, not multiplied by zero.
    kept = mask[:, None, None, None]
    rows = jnp.sum(mask, dtype=inputs.dtype)
    count = rows * math.prod(inputs.shape[1:3])
    total = jnp.maximum(count, 1)
    mean = jnp.sum(inputs, (0, 1, 2), where=kept) / total
    var = jnp.sum(jnp.square(inputs - mean[None, None, None]), (0, 1, 2), where=kept) / total
    unbiased = var * (total / jnp.maximum(count - 1, 1))
    running = {
        "mean": jnp.where(count > 0, _mix(stats["mean"], mean), stats["mean"]),
        "var": jnp.where(count > 1, _mix(stats["var"], unbiased), stats["var"]),
    }
    return _normalize(params, mean, var, inputs), running


def max_pool(inputs: Array) -> Array:
    """Takes the maximum of every 2 × 2 window: [B, H, W, C] → [B, H // 2, W // 2, C].

    An odd last row or column is dropped. As in PyTorch, the gradient goes to the first of a
    window's largest values, in reading order.
    """
    batch, height, width, channels = inputs.shape
    height, width = height // 2, width // 2
    inputs = inputs[:, : 2 * height, : 2 * width]
    # Pairs of columns side by side: one contiguous slice then takes the left or the right ones.
    return _max_of_four(inputs.reshape(batch, height, 2, width, 2 * channels))


def flatten(inputs: Array) -> Array:
    """Returns [B, ...] as [B, features]; an image in the order H, W, C."""
    return inputs.reshape(inputs.shape[0], -1)


def _uniform(
    key: Array, kernel: Sequence[int], bias: Sequence[int] | None, dtype: Any
) -> dict[str, Array]:
    bound = 1 / math.sqrt(math.prod(kernel[:-1]))
    shapes = {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}
    keys = jax.random.split(key)
    return {
        name: jax.random.uniform(k, shape, dtype, -bound, bound)
        for k, (name, shape) in zip(keys, shapes.items(), strict=False)
    }


def _normalize(params: PyTree, mean: Array, var: Array, inputs: Array) -> Array:
    scale = params["scale"] * jax.lax.rsqrt(var + EPSILON)
    shift = params["bias"] - mean * scale
    return inputs * scale[None, None, None] + shift[None, None, None]


def _mix(running: Array, batch: Array) -> Array:
    return (1 - MOMENTUM) * running + MOMENTUM * batch


def _corners(pairs: Array) -> tuple[Array, Array, Array, Array]:
    """Splits [B, H, 2, W, 2·C] into the four corners [B, H, W, C] of every window."""
    c = pairs.shape[-1] // 2
    top, bottom = pairs[:, :, 0], pairs[:, :, 1]
    return top[..., :c], top[..., c:], bottom[..., :c], bottom[..., c:]


# Autodiff's gradient of a maximum splits ties evenly, and of slices is a slow sum of padded arrays.
@jax.custom_vjp
def _max_of_four(pairs: Array) -> Array:
    a, b, c, d = _corners(pairs)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _max_of_four_forward(pairs: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = _max_of_four(pairs)
    return largest, (pairs, largest)


def _max_of_four_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    pairs, largest = residuals
    a, b, c, _ = (corner == largest for corner in _corners(pairs))
    first = (a, b & ~a, c & ~(a | b), ~(a | b | c))
    a, b, c, d = (jnp.where(chosen, gradient, jnp.zeros_like(gradient)) for chosen in first)
    rows = [jnp.concatenate([a, b], axis=-1), jnp.concatenate([c, d], axis=-1)]
    return (jnp.stack(rows, axis=2),)


_max_of_four.defvjp(_max_of_four_forward, _max_of_four_backward)
