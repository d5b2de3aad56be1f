"""A convolution that is fast inside a compiled loop on a CPU: matrix products, one way or another.

XLA runs `lax.conv_general_dilated` slowly inside a loop on a CPU (no library call, one thread), and
under `vmap` with a kernel per client it becomes a grouped convolution, slow on every backend.
Matrix products are fast in both places. There are two ways to them, `winograd` for 3 × 3 kernels
between many channels and `banded` for all others, and this is where one is chosen.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_ecgr.ops import banded, winograd
from fedjax_ecgr.ops.pooling import max_pool
from fedjax_ecgr.types import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")

MANY_CHANNELS = 16
"""From so many channels on, in and out, Winograd's products are larger than its sums."""


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
    and anything on another backend than the CPU, is lax's own convolution. Derivatives are taken
    in reverse and forward mode, to any order.

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
        if _by_products(lhs, rhs, edges):
            full = preferred_element_type in (None, lhs.dtype)
            if strides == (1, 1) and full and _many_channels(lhs, rhs):
                return winograd.convolve(lhs, rhs, edges, precision)
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
    if _by_products(lhs, rhs, edges, smallest=2):
        way = winograd if _many_channels(lhs, rhs) else banded
        return way.convolve_max_pool(lhs, rhs, edges, precision)
    return max_pool(
        conv_general_dilated(lhs, rhs, (1, 1), edges, dimension_numbers=LAYOUT, precision=precision)
    )


def _edges(
    inputs: Array,
    kernel: Array,
    strides: tuple[int, int],
    padding: str | Sequence[tuple[int, int]],
) -> winograd.Padding:
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)


def _by_products(inputs: Array, kernel: Array, edges: winograd.Padding, smallest: int = 1) -> bool:
    # A trace knows neither the device it will run on nor a vmap around it, so the process's default
    # backend decides. An accelerator has a convolution library, which is what it keeps.
    return (
        jax.default_backend() == "cpu"
        and min(*inputs.shape, *kernel.shape) > 0
        and all(
            n + sum(edge) - k + 1 >= smallest
            for n, edge, k in zip(inputs.shape[1:3], edges, kernel.shape, strict=False)
        )
    )


def _many_channels(inputs: Array, kernel: Array) -> bool:
    """Returns whether it is a convolution that Winograd's way computes well, and fast."""
    exact = inputs.dtype == kernel.dtype and inputs.dtype in (jnp.float32, jnp.float64)
    return kernel.shape[:2] == (3, 3) and exact and min(kernel.shape[2:]) >= MANY_CHANNELS


def _undilated(dilation: Sequence[int] | None) -> bool:
    return dilation is None or all(factor == 1 for factor in dilation)
