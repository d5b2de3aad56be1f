"""The layers of the built-in models: pure functions that start and compute as PyTorch's do.

Images are [B, H, W, C], kernels [kh, kw, I, O] and [in, out]. Everything is computed in the
parameters' dtype.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import InputError, count, known
from fedjax_ecgr.ops.convolution import LAYOUT, conv_general_dilated, conv_max_pool
from fedjax_ecgr.types import Array, PyTree, counting_dtype

MOMENTUM = 0.1
EPSILON = 1e-5

NORMS = {
    "none": "nothing",
    "batch": "over the batch, with running statistics",
    "group": "over groups of channels, each example by itself",
}


def dense_init(key: Array, inputs: int, outputs: int, dtype: Any) -> PyTree:
    """Draws {"kernel" [inputs, outputs], "bias" [outputs]} from U(±1/√inputs)."""
    return _uniform(key, (inputs, outputs), (outputs,), dtype)


def dense(params: PyTree, inputs: Array) -> Array:
    """Returns inputs @ kernel + bias: [B, …, in] → [B, …, out]."""
    outputs = inputs @ params["kernel"]
    return outputs + jnp.broadcast_to(params["bias"], outputs.shape)


def conv_init(
    key: Array, kernel: int, inputs: int, outputs: int, dtype: Any, *, bias: bool = True
) -> PyTree:
    """Draws {"kernel" [kernel, kernel, inputs, outputs], "bias" [outputs]} from U(±1/√fan_in).

    The fan-in is kernel·kernel·inputs.
    """
    return _uniform(key, (kernel, kernel, inputs, outputs), (outputs,) if bias else None, dtype)


def conv(
    params: PyTree, inputs: Array, padding: str | Sequence[tuple[int, int]], stride: int = 1
) -> Array:
    """Convolves: [B, H, W, I] → [B, H', W', O]; a bias is added if there is one."""
    outputs = conv_general_dilated(
        inputs, params["kernel"], (stride, stride), padding, dimension_numbers=LAYOUT
    )
    return outputs + params["bias"][None, None, None] if "bias" in params else outputs


def conv_pool(params: PyTree, inputs: Array, padding: str | Sequence[tuple[int, int]]) -> Array:
    """Convolves with stride 1 and max-pools 2 × 2 windows: [B, H, W, I] → [B, H' // 2, W' // 2, O].

    A bias is added behind the pooling, with which it commutes: a quarter of the work.
    """
    outputs = conv_max_pool(inputs, params["kernel"], padding)
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
    return _by_its_batch(params, stats, inputs, mask)


@partial(jax.jit, inline=True)  # equal layers are traced once
def _by_its_batch(
    params: PyTree, stats: PyTree, inputs: Array, mask: Array
) -> tuple[Array, PyTree]:
    # A masked row may hold anything, so it is selected away, not multiplied by zero.
    kept = mask[:, None, None, None]
    counting = counting_dtype(inputs.dtype)  # half precision holds neither sums nor squares
    rows = jnp.sum(mask, dtype=counting)
    count = rows * math.prod(inputs.shape[1:3])
    total = jnp.maximum(count, 1)
    x = inputs.astype(counting)
    mean = jnp.sum(x, (0, 1, 2), where=kept) / total
    var = jnp.sum(jnp.square(x - mean[None, None, None]), (0, 1, 2), where=kept) / total
    unbiased = var * (total / jnp.maximum(count - 1, 1))
    mean, var, unbiased = (s.astype(inputs.dtype) for s in (mean, var, unbiased))
    running = {
        "mean": jnp.where(count > 0, _mix(stats["mean"], mean), stats["mean"]),
        "var": jnp.where(count > 1, _mix(stats["var"], unbiased), stats["var"]),
    }
    return _normalize(params, mean, var, inputs), running


@partial(jax.jit, static_argnames="groups", inline=True)
def group_norm(params: PyTree, inputs: Array, groups: int) -> Array:
    """Group normalisation (Wu and He, arXiv 1803.08494), each example by itself.

    Args:
      params: {"scale", "bias"}, each [C].
      inputs: [B, H, W, C].
      groups: into which channels are divided.
    """
    x = inputs.reshape(*inputs.shape[:3], groups, -1)
    axes = (1, 2, 4)
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    x = ((x - mean) * jax.lax.rsqrt(var + EPSILON)).reshape(inputs.shape)
    return x * params["scale"][None, None, None] + params["bias"][None, None, None]


class Norm(NamedTuple):
    """A normalisation behind a convolution.

    Attributes:
      kind: a name in `NORMS`.
      groups: of channels, for `group`.
    """

    kind: str
    groups: int

    @classmethod
    def of(cls, kind: str, groups: int, channels: int) -> "Norm":
        """Returns a normalisation; raises `InputError` if there is none such for the channels."""
        known("norm", kind, NORMS)
        count("groups", groups, high=channels, why="the fewest channels")
        if kind == "group" and channels % groups:
            raise InputError(f"groups: {groups} is not allowed, it must divide {channels} channels")
        return cls(kind, groups)

    def init(self, channels: int, dtype: Any) -> tuple[PyTree, PyTree]:
        """Returns the first parameters and statistics."""
        params, stats = batch_norm_init(channels, dtype)
        return ({} if self.kind == "none" else params), (stats if self.kind == "batch" else {})

    def apply(
        self, params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool
    ) -> tuple[Array, PyTree]:
        """Returns normalised inputs [B, H, W, C] and the new statistics; see `batch_norm`."""
        if self.kind == "batch":
            return batch_norm(params, stats, inputs, mask=mask, train=train)
        return (group_norm(params, inputs, self.groups) if params else inputs), stats


def overlapping_max_pool(inputs: Array) -> Array:
    """Max-pools 3 × 3 windows, 2 apart and padded by 1: [B, H, W, C] → [B, ⌈H / 2⌉, ⌈W / 2⌉, C].

    For what is behind a ReLU: where several are the largest, each has a part of the gradient, and
    the padding is 0.
    """
    for axis in (1, 2):
        length = -(-inputs.shape[axis] // 2)
        edges = [(0, 0)] * 4
        edges[axis] = (1, 2 * length - inputs.shape[axis])
        padded = jnp.pad(inputs, edges)
        first, second, third = (
            jax.lax.slice_in_dim(padded, start, start + 2 * length - 1, 2, axis)
            for start in range(3)
        )
        inputs = jnp.maximum(jnp.maximum(first, second), third)
    return inputs


def local_response_norm(inputs: Array) -> Array:
    """Local response normalisation (Krizhevsky et al., 2012, section 3.3), PyTorch's, for CIFAR.

    x_c / (1 + (0.001 / 9) mean x²)^0.75, the mean over the channels c − 2 to c + 1, of which those
    that there are not count as 0.
    """
    squares = jnp.pad(jnp.square(inputs), ((0, 0), (0, 0), (0, 0), (2, 1)))
    channels = inputs.shape[-1]
    first, *others = (squares[..., start : start + channels] for start in range(4))
    total = sum(others, start=first)
    return inputs * (1 + (0.001 / 9 / 4) * total) ** -0.75


def dropout(key: Array, inputs: Array, share: float, train: bool) -> Array:
    """Sets a share of numbers to 0 in training, and scales the others by 1 / (1 − share)."""
    if not train or not share:
        return inputs
    kept = jax.random.uniform(key, inputs.shape) >= share
    return jnp.where(kept, inputs / (1 - share), 0)


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
