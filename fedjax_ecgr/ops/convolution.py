"""A convolution that is fast in a compiled loop and with a kernel per client: by matrix products.

XLA runs `lax.conv_general_dilated` slowly inside a loop on a CPU (no library call, one thread), and
under `vmap` with a kernel per client it becomes a grouped convolution, slow on every backend.
Matrix products are fast in both places. There are two ways to them, `winograd` for 3 × 3 kernels
between many channels and `banded` for all others, and this is where one is chosen on a CPU. An
accelerator has a library for convolutions with one kernel, and measures what is best for several:
`grouped`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_ecgr.ops import banded, grouped, winograd
from fedjax_ecgr.ops.grouped import LAYOUT
from fedjax_ecgr.ops.pooling import max_pool
from fedjax_ecgr.types import Array


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
    """Returns what `jax.lax.conv_general_dilated` does, to rounding, in the fastest way.

    Has lax's signature, so that a flax layer takes it:
    `nnx.Conv(..., conv_general_dilated=conv_general_dilated)`. Two spatial dimensions in the layout
    ("NHWC", "HWIO", "NHWC"), without dilation and groups, become matrix products on a CPU, and on
    another backend, where several kernels are mapped over, what a measurement found fastest;
    anything else is lax's own convolution. Derivatives are taken in reverse and forward mode, to
    any order.

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
    )
    if plain:
        strides = (window_strides[0], window_strides[1])
        edges = _edges(lhs, rhs, strides, padding)
        full = preferred_element_type in (None, lhs.dtype)
        if _not_empty(lhs, rhs, edges):
            if on_accelerator():
                if full and lhs.dtype == rhs.dtype and jnp.issubdtype(lhs.dtype, jnp.floating):
                    return grouped.convolve(lhs, rhs, strides, edges, precision)
            elif strides == (1, 1) and full and winograd.suits(lhs, rhs):
                return winograd.convolve(lhs, rhs, edges, precision)
            else:
                return banded.convolve(lhs, rhs, strides, edges, precision, preferred_element_type)
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


def conv_max_pool(
    lhs: Array, rhs: Array, padding: str | Sequence[tuple[int, int]], precision: Any = None
) -> Array:
    """Returns 2 × 2 max-pooling of a convolution with stride 1, both in one where that is faster.

    Args:
      lhs: inputs [B, H, W, I].
      rhs: kernel [kh, kw, I, O].
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
      precision: precision of the products, as in lax.

    Returns:
      [B, H' // 2, W' // 2, O] for a convolution [B, H', W', O].
    """
    edges = _edges(lhs, rhs, (1, 1), padding)
    if not on_accelerator() and _not_empty(lhs, rhs, edges, smallest=2):
        way = winograd if winograd.suits(lhs, rhs) else banded
        return way.convolve_max_pool(lhs, rhs, edges, precision)
    return max_pool(
        conv_general_dilated(lhs, rhs, (1, 1), edges, dimension_numbers=LAYOUT, precision=precision)
    )


def on_accelerator() -> bool:
    """Returns whether the process's default backend is an accelerator.

    That decides, since a trace does not know the device it will run on.
    """
    return jax.default_backend() != "cpu"


def _edges(
    inputs: Array,
    kernel: Array,
    strides: tuple[int, int],
    padding: str | Sequence[tuple[int, int]],
) -> banded.Padding:
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)


def _not_empty(inputs: Array, kernel: Array, edges: banded.Padding, smallest: int = 1) -> bool:
    return min(*inputs.shape, *kernel.shape) > 0 and all(
        n + sum(edge) - k + 1 >= smallest
        for n, edge, k in zip(inputs.shape[1:3], edges, kernel.shape, strict=False)
    )


def _undilated(dilation: Sequence[int] | None) -> bool:
    return dilation is None or all(factor == 1 for factor in dilation)
