"""A convolution as one product of windows with a band of the kernel.

Neighbouring outputs share most of their inputs. Where one row of the product gives t of them, it
reads a window of kh × span inputs, span = (t − 1)·stride + kw, and the kernel is written t times
into a band, each copy shifted by one stride:

    outputs [B·H·W/t, t·O]  =  windows [B·H·W/t, kh·span·I]  @  band [kh·span·I, t·O].

t = 1 is the well-known im2col (Chellapilla, Puri and Simard, 2006); t = W makes whole rows. A
larger t copies fewer inputs and makes the product wider, and spends a span/kw multiple of the
operations, on the band's zeros; `tile_width` weighs the two. Where 2 × 2 max-pooling follows, one
row of the product gives the four outputs of a pooling window, of which only the largest is kept.

Windows are slices and concatenations, so the gradients that autodiff derives are slices, sums and
matrix products again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_ecgr.ops.pooling import first_largest
from fedjax_ecgr.types import Array

Padding = tuple[tuple[int, int], tuple[int, int]]

CHUNK_BYTES = 4 * 2**20
"""Windows of a batch that take more than this are made and used a chunk of the batch at a time."""

NARROW = 24
"""A product with fewer columns than this takes as long as one with this many."""

COPY = 48
"""Multiply-adds in the time that it takes to move one input into its window and back."""


def convolve(
    inputs: Array,
    kernel: Array,
    strides: tuple[int, int],
    padding: Padding,
    precision: Any = None,
    element_type: Any = None,
    *,
    t: int | None = None,
    limit: int | None = None,
) -> Array:
    """Convolves inputs [B, H, W, I] with a kernel [kh, kw, I, O] to outputs [B, H', W', O].

    Args:
      inputs: [B, H, W, I].
      kernel: [kh, kw, I, O].
      strides: (vertical, horizontal) stride.
      padding: ((top, bottom), (left, right)).
      precision: of the products.
      element_type: of the outputs.
      t: outputs in a row of the product; by default `tile_width`'s.
      limit: bytes of windows at a time, in place of `CHUNK_BYTES`.
    """
    left, right = padding[1]
    out_width = (inputs.shape[2] + left + right - kernel.shape[1]) // strides[1] + 1
    t = tile_width(kernel.shape, strides[1], out_width) if t is None else t
    limit = CHUNK_BYTES if limit is None else limit
    return _convolve(inputs, kernel, strides, padding, precision, element_type, t, limit)


@partial(jax.jit, static_argnums=(2, 3, 4, 5, 6, 7), inline=True)  # equal layers are traced once
def _convolve(
    inputs: Array,
    kernel: Array,
    strides: tuple[int, int],
    padding: Padding,
    precision: Any,
    element_type: Any,
    t: int,
    limit: int,
) -> Array:
    (top, bottom), (left, right) = padding
    _, height, width, _ = inputs.shape
    kh, kw, _, outputs = kernel.shape
    out_height = (height + top + bottom - kh) // strides[0] + 1
    out_width = (width + left + right - kw) // strides[1] + 1
    tiles = -(-out_width // t)
    weights = band(kernel, t, strides[1])

    def some(inputs: Array, weights: Array) -> Array:
        padded = _pad(inputs, (0, 0), (top, bottom), (left, right))
        rows = windows(padded, (kh, kw), strides, (out_height, tiles, t))
        products = _product(rows, weights, precision, element_type)
        return products.reshape(-1, out_height, tiles * t, outputs)[:, :, :out_width]

    window_bytes = out_height * tiles * weights.shape[0] * inputs.dtype.itemsize
    return _in_chunks(some, inputs, weights, window_bytes, limit)


def convolve_max_pool(
    inputs: Array, kernel: Array, padding: Padding, precision: Any = None
) -> Array:
    """Convolves [B, H, W, I] with [kh, kw, I, O], stride 1, and max-pools 2 × 2 windows.

    An odd last row or column of the convolution is dropped. The gradient goes to the first of a
    window's largest values.
    """
    return _convolve_max_pool(inputs, kernel, padding, precision, CHUNK_BYTES)


@partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def _convolve_max_pool(
    inputs: Array, kernel: Array, padding: Padding, precision: Any, limit: int
) -> Array:
    height, width = (n // 2 for n in _extent(inputs, kernel, padding))
    return _by_blocks(
        lambda blocks: first_largest(blocks, (3,)),
        inputs,
        kernel,
        padding,
        (height, width),
        precision,
        limit,
    )


def convolve_by_blocks(
    inputs: Array,
    kernel: Array,
    padding: Padding,
    precision: Any = None,
    *,
    limit: int | None = None,
) -> Array:
    """Convolves as `convolve` does, stride 1, where a row of the product gives 2 × 2 outputs."""
    limit = CHUNK_BYTES if limit is None else limit
    height, width = _extent(inputs, kernel, padding)
    h, w = -(-height // 2), -(-width // 2)
    outputs = kernel.shape[-1]

    def laid_out(blocks: Array) -> Array:
        rows = blocks.reshape(-1, h, w, 2, 2, outputs).transpose(0, 1, 3, 2, 4, 5)
        return rows.reshape(-1, 2 * h, 2 * w, outputs)[:, :height, :width]

    return _by_blocks(laid_out, inputs, kernel, padding, (h, w), precision, limit)


def _by_blocks(
    finish: Callable[[Array], Array],
    inputs: Array,
    kernel: Array,
    padding: Padding,
    out: tuple[int, int],
    precision: Any,
    limit: int,
) -> Array:
    """Convolves to blocks of 2 × 2 outputs, [B, h, w, 4, O] where `out` is (h, w), and finishes."""
    _, height, width, features = inputs.shape
    kh, kw, _, outputs = kernel.shape
    out_height, out_width = out
    # A window of kh + 1 rows and kw + 1 columns is made of whole blocks of 2 × 2 inputs.
    reach = (kh // 2 + 1, kw // 2 + 1)
    blocks = (out_height + reach[0] - 1, out_width + reach[1] - 1)
    edges = [
        (before, 2 * b - n - before)
        for n, (before, _), b in zip((height, width), padding, blocks, strict=True)
    ]
    weights = _block_band(kernel, reach)

    def some(inputs: Array, weights: Array) -> Array:
        padded = _pad(inputs, (0, 0), *edges)
        grid = padded.reshape(-1, blocks[0], 2, blocks[1], 2, features)
        grid = grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, *blocks, 4 * features)
        rows = jnp.concatenate(
            [
                grid[:, i : i + out_height, j : j + out_width]
                for i in range(reach[0])
                for j in range(reach[1])
            ],
            axis=-1,
        )
        products = _product(rows, weights, precision)
        return finish(products.reshape(*products.shape[:-1], 4, outputs))

    window_bytes = out_height * out_width * weights.shape[0] * inputs.dtype.itemsize
    return _in_chunks(some, inputs, weights, window_bytes, limit)


def _extent(inputs: Array, kernel: Array, padding: Padding) -> tuple[int, int]:
    """Returns H' and W' at stride 1."""
    height, width = (
        n + sum(p) - k + 1
        for n, p, k in zip(inputs.shape[1:3], padding, kernel.shape[:2], strict=True)
    )
    return height, width


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
    """Writes a kernel [kh, kw, I, O] t times into a band [kh·span·I, t·O], a stride apart."""
    kh, kw, features, outputs = kernel.shape
    span = (t - 1) * stride + kw
    shifted = [_pad(kernel, (0, 0), (i * stride, span - kw - i * stride)) for i in range(t)]
    return jnp.stack(shifted, axis=3).reshape(kh * span * features, t * outputs)


def _block_band(kernel: Array, reach: tuple[int, int]) -> Array:
    """Writes a kernel four times, for a block of 2 × 2 outputs: [windows' inputs, 4·O]."""
    kh, kw, features, outputs = kernel.shape
    rows, columns = 2 * reach[0], 2 * reach[1]
    shifted = [
        _pad(kernel, (i, rows - kh - i), (j, columns - kw - j)) for i in range(2) for j in range(2)
    ]
    # in the order of the windows: block by block
    blocked = jnp.stack(shifted, axis=3).reshape(reach[0], 2, reach[1], 2, features, 4 * outputs)
    return blocked.transpose(0, 2, 1, 3, 4, 5).reshape(-1, 4 * outputs)


def _product(rows: Array, weights: Array, precision: Any, element_type: Any = None) -> Array:
    """Multiplies [..., K] with [K, N]: [..., N]."""
    flat = rows.reshape(-1, rows.shape[-1])
    # The weights' gradient is a product over all rows, for which one side must be transposed: the
    # narrower one. On which side of the product the weights stand here decides which it is.
    narrow = weights.shape[0] > weights.shape[1]
    weights, contracted = (weights.T, 1) if narrow else (weights, 0)
    products = lax.dot_general(
        flat,
        weights,
        (((1,), (contracted,)), ((), ())),
        precision=precision,
        preferred_element_type=element_type,
    )
    return products.reshape(*rows.shape[:-1], -1)


def _in_chunks(
    function: Callable[[Array, Array], Array],
    inputs: Array,
    weights: Array,
    example_bytes: int,
    limit: int,
) -> Array:
    """Applies `function(inputs, weights)` to as many examples at a time as the limit allows."""
    batch, chunk = inputs.shape[0], max(1, limit // example_bytes)
    if batch <= chunk:
        return function(inputs, weights)
    chunks = -(-batch // chunk)
    chunk = -(-batch // chunks)
    inputs = _pad(inputs, (0, chunks * chunk - batch))
    # A chunk's windows are made again for its gradient: cheaper than the memory to keep them all.
    again = jax.checkpoint(function, prevent_cse=False)
    outs = lax.map(
        lambda inputs: again(inputs, weights), inputs.reshape(chunks, chunk, *inputs.shape[1:])
    )
    return outs.reshape(-1, *outs.shape[2:])[:batch]


def _pad(array: Array, *edges: tuple[int, int]) -> Array:
    """Pads the first axes with (before, after) zeros; a negative number cuts off."""
    rest = ((0, 0),) * (array.ndim - len(edges))
    zero = jnp.zeros((), array.dtype)
    return lax.pad(array, zero, [(before, after, 0) for before, after in (*edges, *rest)])
