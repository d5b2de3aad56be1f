r"""Operations with rules of their own, open to every transformation of JAX.

A backward pass by hand, as `jax.custom_vjp` takes one, closes a function to derivatives in forward
mode. Here the tangent of a function $f$ at $r$, the linear map $L_r$, is computed as it stands in
forward mode, and its transpose, $\langle g, L_r t\rangle = \langle L_r^\top g, t\rangle$, is the
backward pass in reverse. `jax.custom_derivatives.linear_call` is that, without `vmap` and without
derivatives by $r$, of which Hessians are made.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fedjax_ecgr.types import Array

Linear = Callable[[tuple[Array, ...], tuple[Array, ...]], tuple[Array, ...]]
"""`(residuals, operands) -> results`, linear in the operands."""


def primitive(name: str, function: Callable[..., tuple[Array, ...]]) -> Primitive:
    """Returns `function(*arrays, **static) -> arrays` as an operation that lacks only its rules."""
    made = Primitive(name)
    made.multiple_results = True
    made.def_impl(function)
    made.def_abstract_eval(
        lambda *shapes, **static: (
            jax.make_jaxpr(lambda *args: function(*args, **static))(*shapes).out_avals
        )
    )
    mlir.register_lowering(made, mlir.lower_fun(function, multiple_results=True))
    return made


def linear(
    forward: Linear, transpose: Linear, residuals: Sequence[Array], operands: Sequence[Array]
) -> tuple[Array, ...]:
    """Returns `forward(residuals, operands)`, for which `transpose` stands in the backward pass.

    Args:
      forward: `(residuals, operands) -> results`.
      transpose: `(residuals, results' gradients) -> operands' gradients`.
      residuals: what both may depend on in any way that can be differentiated.
      operands: what `forward` is linear in.
    """
    # each is traced once, for the shapes, for the program, and for equal layers under `vmap`
    forward, transpose = (jax.jit(part, inline=True) for part in (forward, transpose))
    return _bound(forward, transpose, residuals, operands)


def _bound(
    forward: Linear, transpose: Linear, residuals: Sequence[Array], operands: Sequence[Array]
) -> tuple[Array, ...]:
    return tuple(
        _linear.bind(
            *residuals, *operands, forward=forward, transpose=transpose, known=len(residuals)
        )
    )


def _evaluate(*args: Array, forward: Linear, transpose: Linear, known: int) -> tuple[Array, ...]:
    return tuple(forward(args[:known], args[known:]))


def _tangents(
    primals: Sequence[Array], tangents: Sequence[Any], *, forward: Linear, known: int, **params: Any
) -> tuple[Sequence[Array], Sequence[Any]]:
    residuals, operands = tuple(primals[:known]), tuple(primals[known:])
    moved = [i for i in range(known) if not isinstance(tangents[i], ad.Zero)]

    def at(values: Sequence[Array]) -> tuple[Array, ...]:
        there = dict(zip(moved, values, strict=True))
        return forward(tuple(there.get(i, x) for i, x in enumerate(residuals)), operands)

    results = _bound(forward, params["transpose"], residuals, operands)
    parts = []
    if moved:
        start, direction = ([side[i] for i in moved] for side in (primals, tangents))
        parts.append(jax.jvp(at, (start,), (direction,))[1])
    if not all(isinstance(t, ad.Zero) for t in tangents[known:]):
        direction = [ad.instantiate_zeros(t) for t in tangents[known:]]
        parts.append(_bound(forward, params["transpose"], residuals, direction))
    return results, [sum(terms[1:], start=terms[0]) for terms in zip(*parts, strict=True)]


def _transposed(
    gradients: Sequence[Any], *args: Any, forward: Linear, transpose: Linear, known: int
) -> list[Array | None]:
    residuals, operands = args[:known], args[known:]
    gradients = [ad.instantiate_zeros(g) for g in gradients]
    results = _bound(transpose, forward, residuals, gradients)
    # An operand that is known is a zero that nobody differentiates by.
    wanted = [ad.is_undefined_primal(x) for x in operands]
    return [None] * known + [g if w else None for g, w in zip(results, wanted, strict=True)]


def _mapped(
    args: Sequence[Array],
    axes: Sequence[Any],
    *,
    forward: Linear,
    transpose: Linear,
    known: int,
) -> tuple[tuple[Array, ...], list[int]]:
    size = next(x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)
    operands = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(args[known:], axes[known:], strict=True)
    ]
    there = tuple(axes[:known])
    results = _bound(_over(forward, there), _over(transpose, there), args[:known], operands)
    return results, [0] * len(results)


@lru_cache(maxsize=1024)  # the same for equal layers
def _over(function: Linear, axes: tuple[Any, ...]) -> Linear:
    return jax.jit(jax.vmap(function, (axes, 0)), inline=True)


_linear = primitive("linear", _evaluate)
ad.primitive_jvps[_linear] = _tangents
ad.primitive_transposes[_linear] = _transposed
batching.primitive_batchers[_linear] = _mapped
