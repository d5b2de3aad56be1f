r"""Convolutions with several kernels, each over its own inputs, as an accelerator does them best.

Under `vmap` with a kernel per client a convolution becomes one over K groups,

    outputs [K, B, H', W', O]  of  inputs [K, B, H, W, I]  and  kernels [K, kh, kw, I, O],

which is lax's own grouped convolution, or products by `banded` or `winograd`. Which of them is the
fastest, often by several times, depends on the device and the shapes, so it is measured, where a
program is compiled that has the operation: by then every `vmap` around it is known, and K is the
number of all kernels. A single kernel, K = 1, is lax's own convolution.

A convolution $C(x, w)$ is linear in each of its operands. With the gradients $D(g, w)$ by the
inputs and $E(x, g)$ by the kernel, each derivative of one of the three is another of them: as
$\langle g, C(x, w)\rangle = \langle D(g, w), x\rangle = \langle E(x, g), w\rangle$, the transposes
of $C$ are $D$ and $E$, those of $D$ are $C$ and $E$, and those of $E$ are $D$ and $C$. Each of the
three is an operation and measured for itself: a way that is good for one can be slow for another,
and which of them a program needs is not known (a first layer has no use for $D$).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fedjax_ecgr.ops import banded, winograd
from fedjax_ecgr.ops.banded import Padding
from fedjax_ecgr.ops.measured import fastest
from fedjax_ecgr.types import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")

LIMIT = 4 * 2**30
"""Windows of all kernels' batches that take more bytes are made and used a part at a time."""

Convolution = Callable[[Array, Array], Array]


class Geometry(NamedTuple):
    """What the operands' shapes do not say of a convolution.

    Attributes:
      size: (H, W) of the inputs.
      kernel: (kh, kw).
      strides: (vertical, horizontal) stride.
      padding: ((top, bottom), (left, right)).
      precision: of the products.
    """

    size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: Padding
    precision: Any


def convolve(
    inputs: Array, kernel: Array, strides: tuple[int, int], padding: Padding, precision: Any = None
) -> Array:
    """Convolves inputs [B, H, W, I] with a kernel [kh, kw, I, O] to outputs [B, H', W', O]."""
    _, height, width, _ = inputs.shape
    kh, kw, _, _ = kernel.shape
    if precision is None:  # the default, which may be another one when the program is compiled
        config: Any = jax.config
        precision = config.jax_default_matmul_precision
    geometry = Geometry((height, width), (kh, kw), strides, padding, precision)
    return _outputs.bind(inputs[None], kernel[None], geometry=geometry)[0]


def ways(part: str, geometry: Geometry, operands: Sequence[Any]) -> dict[str, Convolution]:
    """Returns every way there is for a part of a convolution of these operands, by name.

    Args:
      part: "outputs", "inputs" or "kernel": what is computed.
      geometry: of the convolution.
      operands: [K, ...] each, arrays or shapes.

    Returns:
      Functions `(inputs [B, H, W, I], kernel [kh, kw, I, O]) -> outputs`.
    """
    _, _, strides, padding, precision = geometry
    inputs, kernel = _forward(part, geometry, *(_one(x) for x in operands))
    products = {"precision": precision, "limit": LIMIT // operands[0].shape[0]}
    width = (inputs.shape[2] + sum(padding[1]) - kernel.shape[1]) // strides[1] + 1
    some: dict[str, Convolution] = {
        "lax": partial(
            lax.conv_general_dilated,
            window_strides=strides,
            padding=padding,
            dimension_numbers=LAYOUT,
            precision=precision,
        ),
        "windows": partial(banded.convolve, strides=strides, padding=padding, t=1, **products),
    }
    if banded.tile_width(kernel.shape, strides[1], width) > 1:
        some["banded"] = partial(banded.convolve, strides=strides, padding=padding, **products)
    if strides == (1, 1):
        some["blocks"] = partial(banded.convolve_by_blocks, padding=padding, **products)
        if winograd.suits(inputs, kernel):
            some["winograd"] = partial(winograd.convolve, padding=padding, **products)
    return some


def chosen(
    part: str,
    geometry: Geometry,
    there: Mapping[str, Convolution],
    operands: Sequence[jax.ShapeDtypeStruct],
) -> str:
    """Returns the name of the way by which a part of a convolution is computed.

    Several processes must compile the same program, so that they do not measure: there it is
    products.

    Args:
      part: "outputs", "inputs" or "kernel": what is computed.
      geometry: of the convolution.
      there: the ways there are.
      operands: [K, ...] each.
    """
    if operands[0].shape[0] == 1:
        return "lax"
    if jax.process_count() > 1:
        return next(name for name in ("winograd", "banded", "windows") if name in there)
    first, second = ("×".join(map(str, x.shape)) for x in operands)
    rest = ", ".join(f"{name} {value}" for name, value in geometry._asdict().items())
    operation = f"{part} of {first} and {second}, {operands[0].dtype}, {rest}"
    computations = {name: computation(part, geometry, way) for name, way in there.items()}
    return fastest(operation, computations, operands, otherwise="lax")


def computation(part: str, geometry: Geometry, way: Convolution) -> Convolution:
    """Returns the function of the operands, [K, ...] each, that computes a part in this way."""

    def of_one(a: Array, b: Array) -> Array:
        if part == "outputs":
            return way(a, b)
        inputs, kernel = (jnp.zeros(x.shape, x.dtype) for x in _forward(part, geometry, a, b))
        # linear in either, so that the zeros at which it is differentiated go unused
        if part == "inputs":
            return jax.vjp(lambda x: way(x, b), inputs)[1](a)[0]
        return jax.vjp(lambda w: way(a, w), kernel)[1](b)[0]

    def of_all(a: Array, b: Array) -> Array:
        return of_one(a[0], b[0])[None] if a.shape[0] == 1 else jax.vmap(of_one)(a, b)

    return of_all


def _one(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)


def _forward(part: str, geometry: Geometry, a: Any, b: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns the shapes of inputs and kernel of the convolution with a part of these operands."""
    inputs, kernel = a.shape, b.shape
    if part == "inputs":  # a are gradients of the outputs
        inputs = (a.shape[0], *geometry.size, b.shape[2])
    if part == "kernel":  # b are
        kernel = (*geometry.kernel, a.shape[3], b.shape[3])
    return jax.ShapeDtypeStruct(inputs, a.dtype), jax.ShapeDtypeStruct(kernel, a.dtype)


def _lowered(ctx: Any, a: Any, b: Any, *, part: str, geometry: Geometry) -> Any:
    operands = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in ctx.avals_in]
    there = ways(part, geometry, operands)
    way = there[chosen(part, geometry, there, operands)]
    return mlir.lower_fun(computation(part, geometry, way), multiple_results=False)(ctx, a, b)


def _mapped(
    made: Primitive,
    free: tuple[tuple[int, int], tuple[int, int]],
    operands: Sequence[Array],
    axes: Sequence[int | None],
    **params: Any,
) -> tuple[Array, int]:
    """The rule of `vmap`: where both operands are mapped there are so many times the kernels.

    Where one is, its parts are laid side by side along an axis that the other operand has not:
    examples that share a kernel are one batch, kernels that share examples have all their channels
    in one kernel.

    Args:
      made: the operation.
      free: for each operand, that axis of it and of the result.
      operands: [K, ...] and an axis more where mapped.
      axes: where that stands.
      **params: of the operation.
    """
    both = None not in axes
    size, place, joined = 0, 0, list(operands)
    for i, (x, axis) in enumerate(zip(operands, axes, strict=True)):
        if axis is not None:
            into, place = (0, 0) if both else free[i]
            size, joined[i] = x.shape[axis], _joined(x, axis, into)
    return _parted(made.bind(*joined, **params), size, place)


def _joined(x: Array, axis: int, into: int) -> Array:
    """Makes one axis of the mapped one and of `into`, counted without it."""
    into %= x.ndim - 1
    x = jnp.moveaxis(x, axis, into)
    return x.reshape(*x.shape[:into], -1, *x.shape[into + 2 :])


def _parted(x: Array, size: int, axis: int) -> tuple[Array, int]:
    """Undoes `_joined`; returns also where the mapped axis stands."""
    axis %= x.ndim
    return x.reshape(*x.shape[:axis], size, -1, *x.shape[axis + 1 :]), axis


def _operation(part: str, free: tuple[tuple[int, int], tuple[int, int]]) -> Primitive:
    made = Primitive(f"convolution_{part}")

    def shape(a: Any, b: Any, *, geometry: Geometry) -> Any:
        by_lax = computation(part, geometry, ways(part, geometry, (a, b))["lax"])
        return jax.make_jaxpr(by_lax)(a, b).out_avals[0]

    made.def_abstract_eval(shape)
    made.def_impl(jax.jit(made.bind, static_argnames="geometry"))
    mlir.register_lowering(made, partial(_lowered, part=part))
    batching.primitive_batchers[made] = partial(_mapped, made, free)
    return made


# The axes of examples B are counted from the front, [K, B, ...], those of channels from the back.
_outputs = _operation("outputs", ((1, 1), (-1, -1)))  # of inputs and kernel: B, O
_inputs = _operation("inputs", ((1, 1), (-2, -1)))  # of outputs and kernel: B, I
_kernel = _operation("kernel", ((-1, -2), (-1, -1)))  # of inputs and outputs: I, O

ad.defbilinear(
    _outputs,
    lambda out, x, w, **params: _inputs.bind(out, w, **params),
    lambda out, x, w, **params: _kernel.bind(x, out, **params),
)
ad.defbilinear(
    _inputs,
    lambda x, out, w, **params: _outputs.bind(x, w, **params),
    lambda x, out, w, **params: _kernel.bind(x, out, **params),
)
ad.defbilinear(
    _kernel,
    lambda w, x, out, **params: _inputs.bind(out, w, **params),
    lambda w, x, out, **params: _outputs.bind(x, w, **params),
)
