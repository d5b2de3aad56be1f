"""A convolution as matrix products, for a compiled loop on a CPU.

XLA runs `lax.conv_general_dilated` slowly inside a loop on a CPU (no library call, one thread), and
under `vmap` with a kernel per client it becomes a grouped convolution, slow on every backend.
Matrix products are fast in both places. Along the width, t neighbouring outputs see

    span = (t − 1)·stride + kw

columns of the input, so with every window of kh × span inputs laid out as a row of a matrix, and
the kernel written t times into a band, each copy shifted by one stride,

    outputs [B·H·W/t, t·O]  =  windows [B·H·W/t, kh·span·I]  @  band [kh·span·I, t·O].

t = 1 is the well-known im2col (Chellapilla, Puri and Simard, 2006); t = W makes whole rows. A
larger t copies fewer inputs and makes the product wider, and spends a span/kw multiple of the
operations, on the band's zeros; `tile_width` weighs the two. Windows are slices and concatenations,
so the gradients that autodiff derives are slices, sums and matrix products again.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_ecgr.models.base import Array

CHUNK_BYTES = 4 * 2**20
"""Windows of a batch that take more than this are made and used a chunk of the batch at a time."""

NARROW = 24
"""A product with fewer columns than this takes as long as one with this many."""

COPY = 48
"""Multiply-adds in the time that it takes to move one input into its window and back."""

LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Array:
    """Returns what `jax.lax.conv_general_dilated` does, to rounding, by matrix products on a CPU.

    Has lax's signature, so that a flax layer takes it:
    `nnx.Conv(..., conv_general_dilated=conv_general_dilated)`. Two spatial dimensions in the layout
    ("NHWC", "HWIO", "NHWC"), without dilation and groups, become matrix products; anything else,
    and anything on another backend than the CPU, is lax's own convolution.

    Args:
      lhs: inputs [B, H, W, I].
      rhs: kernel [kh, kw, I, O].
      window_strides: (vertical, horizontal) stride.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
      lhs_dilation: as in lax.
      rhs_dilation: as in lax.
      dimension_numbers: as in lax, where None means the layout NCHW, OIHW.
      feature_group_count: as in lax.
      batch_group_count: as in lax.
      precision: precision of the products, as in lax.
      preferred_element_type: element type of the outputs, as in lax.
      out_sharding: as in lax; where one is given the convolution is lax's.

    Returns:
      Outputs [B, H', W', O].
    """
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    plain = (
        lhs.ndim == 4
        and layout == lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
        and feature_group_count == batch_group_count == 1
        and _undilated(lhs_dilation)
        and _undilated(rhs_dilation)
        and out_sharding is None
        and min(*lhs.shape, *rhs.shape) > 0
    )
    # A trace knows neither the device it will run on nor a vmap around it, so the process's default
    # backend decides. An accelerator has a convolution library, which is what it keeps.
    if plain and jax.default_backend() == "cpu":
        strides = (window_strides[0], window_strides[1])
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
        if all(
            n + sum(p) >= k for n, p, k in zip(lhs.shape[1:3], padding, rhs.shape, strict=False)
        ):
            return _by_products(lhs, rhs, strides, padding, precision, preferred_element_type)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        batch_group_count,
        precision,
        preferred_element_type,
        out_sharding,
    )


def tile_width(kernel_shape: Sequence[int], stride: int, width: int) -> int:
    """Returns t, the number of outputs in a row that one row of the matrix product gives.

    Args:
      kernel_shape: (kh, kw, I, O).
      stride: horizontal stride.
      width: number of outputs in a row, W'.
    """
    _, kw, _, outputs = kernel_shape

    def cost(t: int) -> int:
        span = (t - 1) * stride + kw
        return -(-width // t) * span * (max(t * outputs, NARROW) + COPY)

    return min(range(1, width + 1), key=cost)


def _undilated(dilation: Sequence[int] | None) -> bool:
    return dilation is None or all(factor == 1 for factor in dilation)


def _by_products(
    inputs: Array,
    kernel: Array,
    strides: tuple[int, int],
    padding: Sequence[tuple[int, int]],
    precision: Any,
    element_type: Any,
) -> Array:
    """Convolves inputs [B, H, W, I] with a kernel, a chunk of the batch at a time."""
    (top, bottom), (left, right) = padding
    batch, height, width, _ = inputs.shape
    kh, kw, _, outputs = kernel.shape
    out_height = (height + top + bottom - kh) // strides[0] + 1
    out_width = (width + left + right - kw) // strides[1] + 1
    t = tile_width(kernel.shape, strides[1], out_width)
    tiles = -(-out_width // t)
    weights = band(kernel, t, strides[1])

    def convolve(inputs: Array, weights: Array) -> Array:
        padded = _pad(inputs, (0, 0), (top, bottom), (left, right))
        rows = windows(padded, (kh, kw), strides, (out_height, tiles, t))
        products = lax.dot_general(
            rows,
            weights,
            (((3,), (1,)), ((), ())),
            precision=precision,
            preferred_element_type=element_type,
        )
        return products.reshape(-1, out_height, tiles * t, outputs)[:, :, :out_width]

    example_bytes = out_height * tiles * weights.shape[1] * inputs.dtype.itemsize
    chunk = max(1, CHUNK_BYTES // example_bytes)
    if batch <= chunk:
        return convolve(inputs, weights)
    chunks = -(-batch // chunk)
    chunk = -(-batch // chunks)
    inputs = _pad(inputs, (0, chunks * chunk - batch))
    # A chunk's windows are made again for its gradient: cheaper than the memory to keep them all.
    again = jax.checkpoint(convolve, prevent_cse=False)
    outs = lax.map(
        lambda inputs: again(inputs, weights), inputs.reshape(chunks, chunk, *inputs.shape[1:])
    )
    return outs.reshape(-1, out_height, out_width, outputs)[:batch]


def windows(
    inputs: Array, kernel: tuple[int, int], strides: tuple[int, int], out: tuple[int, int, int]
) -> Array:
    """Lays every window of kh × span inputs out as a row.

    Args:
      inputs: padded inputs [B, H, W, I].
      kernel: (kh, kw).
      strides: (vertical, horizontal) stride.
      out: (rows of outputs H', tiles in a row, outputs in a tile t).

    Returns:
      [B, H', tiles, kh·span·I].
    """
    batch, height, width, features = inputs.shape
    out_height, tiles, t = out
    step = t * strides[1]
    span = step - strides[1] + kernel[1]
    reach = -(-span // step)
    # Columns in blocks of one step: a window is a block and the beginning of those behind it, so
    # that whole runs of memory are copied.
    blocks = tiles + reach - 1
    inputs = _pad(inputs, (0, 0), (0, 0), (0, blocks * step - width))
    inputs = inputs.reshape(batch, height, blocks, step * features)
    columns = [
        inputs[:, :, i : i + tiles, : min(step, span - i * step) * features] for i in range(reach)
    ]
    inputs = jnp.concatenate(columns, axis=-1)
    last = (out_height - 1) * strides[0] + 1
    rows = [inputs[:, i : i + last : strides[0]] for i in range(kernel[0])]
    return jnp.concatenate(rows, axis=-1)


def band(kernel: Array, t: int, stride: int) -> Array:
    """Writes a kernel [kh, kw, I, O] t times into a band [t·O, kh·span·I], a stride apart.

    Outputs come first because its gradient, outputs' gradientsᵀ @ windows, then is the product
    that transposes the smaller of the two matrices.
    """
    kh, kw, features, outputs = kernel.shape
    span = (t - 1) * stride + kw
    kernel = kernel.transpose(3, 0, 1, 2)
    shifted = [_pad(kernel, (0, 0), (0, 0), (i * stride, span - kw - i * stride)) for i in range(t)]
    return jnp.stack(shifted).reshape(t * outputs, kh * span * features)


def _pad(array: Array, *edges: tuple[int, int]) -> Array:
    """Pads the first axes with (before, after) zeros; a negative number cuts off."""
    rest = ((0, 0),) * (array.ndim - len(edges))
    zero = jnp.zeros((), array.dtype)
    return lax.pad(array, zero, [(before, after, 0) for before, after in (*edges, *rest)])
