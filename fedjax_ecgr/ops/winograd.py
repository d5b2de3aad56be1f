r"""3 × 3 convolutions with 2.25 times fewer multiplications (Winograd 1980; Lavin and Gray 2016).

A 4 × 4 tile $d$ of the inputs gives a 2 × 2 tile of the outputs,

$$y = A^\top \big[(G g G^\top) \odot (B^\top d B)\big] A,$$

where $G g G^\top$ is the kernel and $B^\top d B$ the tile, transformed by sums and differences, and
$\odot$ multiplies position by position. With channels, each of the 16 positions is one matrix
product, [tiles, I] @ [I, O]: 16 multiplications for four outputs where the plain sum takes 36, and
4 copies of the inputs in memory where windows of 3 × 3 are 9. The factors of $A$ and $B$ are 0 and
±1 and those of $G$ are 0, ±½ and 1, so that float32 loses at most about a bit: against float64,
relative errors on 8 images of 16 × 16 with 64 channels are 2.7e-7 for outputs and inputs' gradient
and 6.9e-7 for the kernel's, where `banded` has 3.8e-7, 1.6e-7 and 2.8e-7.

The gradient $\delta y$ of a tile of the outputs goes both ways by way of $A\,\delta y\,A^\top$: to
the kernel, $G^\top [\sum_{tiles} (B^\top d B)^\top (A\,\delta y\,A^\top)]\,G$, and to the tile of
the inputs, $B\,[(A\,\delta y\,A^\top)\,(G g G^\top)^\top]\,B^\top$, added up where tiles overlap. A
window of 2 × 2 max-pooling is a tile of the outputs, so that pooling takes place before these are
ever put together.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_ecgr.ops.banded import Padding
from fedjax_ecgr.ops.pooling import largest
from fedjax_ecgr.ops.primitives import linear
from fedjax_ecgr.types import Array, PyTree

Limits = tuple[int, int]
Tile = list[list[Array]]

MANY_CHANNELS = 16
"""From so many channels on, in and out, the products are larger than the sums."""

FORWARD_BYTES = 64 * 2**20
"""Transformed inputs of a batch that take more are made and used a chunk of it at a time."""

BACKWARD_BYTES = 13 * 2**20
"""The same for transformed inputs and outputs' gradients together, which are read again at once."""


ENOUGH_TILES = 256
"""A part of the batch with so many tiles loses nothing to a larger one."""


def suits(inputs: Array | jax.ShapeDtypeStruct, kernel: Array | jax.ShapeDtypeStruct) -> bool:
    """Returns whether it is a convolution that is computed well in this way, and fast."""
    exact = inputs.dtype == kernel.dtype and inputs.dtype in (jnp.float32, jnp.float64)
    return kernel.shape[:2] == (3, 3) and exact and min(kernel.shape[2:]) >= MANY_CHANNELS


def convolve(
    inputs: Array,
    kernel: Array,
    padding: Padding,
    precision: Any = None,
    limit: int | None = None,
) -> Array:
    """Convolves inputs [B, H, W, I] with a kernel [3, 3, I, O], stride 1, to [B, H', W', O].

    A `limit` takes the place of `FORWARD_BYTES` and `BACKWARD_BYTES`.
    """
    limits = (FORWARD_BYTES, BACKWARD_BYTES) if limit is None else (limit, limit)
    return _traced(inputs, kernel, padding, precision, limits)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _convolve(
    inputs: Array, kernel: Array, padding: Padding, precision: Any, limits: Limits
) -> Array:
    height, width = _extent(inputs, padding)
    weights = _weights(kernel)

    def some(inputs: Array) -> Array:
        return _interleaved(_tiles(inputs, weights, padding, precision))[:, :height, :width]

    return _in_chunks(some, limits[0], inputs)


@_convolve.defjvp
def _tangent(
    padding: Padding,
    precision: Any,
    limits: Limits,
    primals: tuple[Array, ...],
    tangents: tuple[Array, ...],
) -> tuple[Array, Array]:
    inputs, kernel = primals

    def forward(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array]:
        (inputs, kernel), (by_inputs, by_kernel) = primals, tangents
        return (
            _convolve(by_inputs, kernel, padding, precision, limits)
            + _convolve(inputs, by_kernel, padding, precision, limits),
        )

    def backward(primals: tuple[Array, ...], gradient: tuple[Array, ...]) -> tuple[Array, Array]:
        inputs, kernel = primals
        return _pull(inputs, kernel, padding, precision, limits[1], tiles, *gradient)

    def tiles(gradient: Array) -> Tile:
        _, height, width, _ = gradient.shape
        return _pairs(_pad(gradient, ((0, height % 2), (0, width % 2))))

    (tangent,) = linear(forward, backward, primals, tangents)
    return _convolve(inputs, kernel, padding, precision, limits), tangent


_traced = jax.jit(_convolve, static_argnums=(2, 3, 4), inline=True)  # once for equal layers


def convolve_max_pool(
    inputs: Array, kernel: Array, padding: Padding, precision: Any = None
) -> Array:
    """Convolves as `convolve` does and max-pools 2 × 2 windows, each of which is a tile.

    An odd last row or column of the convolution is dropped. The gradient goes to the first of a
    window's largest values.
    """
    limits = FORWARD_BYTES, BACKWARD_BYTES
    return _traced_pool(inputs, kernel, _whole(inputs, padding), precision, limits)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _convolve_max_pool(
    inputs: Array, kernel: Array, padding: Padding, precision: Any, limits: Limits
) -> Array:
    return _pooled(inputs, kernel, padding, precision, limits[0])[0]


@_convolve_max_pool.defjvp
def _pool_tangent(
    padding: Padding,
    precision: Any,
    limits: Limits,
    primals: tuple[Array, ...],
    tangents: tuple[Array, ...],
) -> tuple[Array, Array]:
    inputs, kernel = primals

    def forward(residuals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array]:
        inputs, kernel, position = residuals
        weights, by_weights = _weights(kernel), _weights(tangents[1])

        def some(inputs: Array, by_inputs: Array, position: Array) -> Array:
            tile = _each(
                jnp.add,
                _tiles(by_inputs, weights, padding, precision),
                _tiles(inputs, by_weights, padding, precision),
            )
            return lax.select_n(position, *tile[0], *tile[1])

        return (_in_chunks(some, limits[0], inputs, tangents[0], position),)

    def backward(residuals: tuple[Array, ...], gradient: tuple[Array, ...]) -> tuple[Array, Array]:
        inputs, kernel, position = residuals
        return _pull(inputs, kernel, padding, precision, limits[1], tiles, *gradient, position)

    def tiles(gradient: Array, position: Array) -> Tile:
        zero = jnp.zeros((), gradient.dtype)
        return [[jnp.where(position == 2 * i + j, gradient, zero) for j in (0, 1)] for i in (0, 1)]

    outputs, position = _pooled(inputs, kernel, padding, precision, limits[0])
    (tangent,) = linear(forward, backward, (inputs, kernel, position), tangents)
    return outputs, tangent


_traced_pool = jax.jit(_convolve_max_pool, static_argnums=(2, 3, 4), inline=True)


def _pooled(
    inputs: Array, kernel: Array, padding: Padding, precision: Any, limit: int
) -> tuple[Array, Array]:
    """Returns the pooled outputs, and which of its window's four each of them is."""
    weights = _weights(kernel)

    def some(inputs: Array) -> tuple[Array, Array]:
        tile = _tiles(inputs, weights, padding, precision)
        return largest(jnp.stack([*tile[0], *tile[1]], axis=3), (3,))

    return _in_chunks(some, limit, inputs)


def _weights(kernel: Array) -> Tile:
    """Returns the transformed kernel [3, 3, I, O]: 4 × 4 arrays [I, O]."""
    return _both(_kernel, [list(row) for row in kernel])


def _tiles(inputs: Array, weights: Tile, padding: Padding, precision: Any) -> Tile:
    """Returns the 2 × 2 positions of the outputs' tiles, each [B, h, w, O]."""
    transformed = _inputs(_even(inputs, padding))
    return _both(_outputs, _each(partial(jnp.matmul, precision=precision), transformed, weights))


def _pull(
    inputs: Array,
    kernel: Array,
    padding: Padding,
    precision: Any,
    limit: int,
    tiles: Callable[..., Tile],
    *gradient: Array,
) -> tuple[Array, Array]:
    """Returns the gradients of inputs and kernel.

    Args:
      inputs: [B, H, W, I].
      kernel: [3, 3, I, O].
      padding: of the inputs.
      precision: of the products.
      limit: bytes of transformed inputs and outputs' gradients at a time.
      tiles: `gradient -> 2 × 2 positions [b, h, w, O]`, the gradient of the outputs' tiles.
      *gradient: [B, …] arrays, of which b examples at a time are given to `tiles`.
    """
    weights = _weights(kernel)
    height, width = _extent(inputs, padding)
    (top, bottom), (left, right) = padding
    edges = ((-top, -bottom - height % 2), (-left, -right - width % 2))

    def some(inputs: Array, *gradient: Array) -> tuple[Tile, Array]:
        spread = _both(_gradients, tiles(*gradient))
        of_kernel = _each(
            lambda x, g: jnp.matmul(_rows(x).T, _rows(g), precision=precision),
            _inputs(_even(inputs, padding)),
            spread,
        )
        of_inputs = _each(lambda g, w: jnp.matmul(g, w.T, precision=precision), spread, weights)
        return of_kernel, _pad(_overlapped(_both(_inputs_gradients, of_inputs)), edges)

    def step(total: Tile, chunk: tuple[Array, ...]) -> tuple[Tile, Array]:
        of_kernel, of_inputs = some(*chunk)
        return _each(jnp.add, total, of_kernel), of_inputs

    batch = inputs.shape[0]
    output_bytes = batch * height * width * kernel.shape[3] * inputs.dtype.itemsize
    count, length = _chunks(inputs.shape, inputs.nbytes + output_bytes, limit)
    if length == batch:
        total, of_inputs = some(inputs, *gradient)
    else:
        zeros = [[jnp.zeros(kernel.shape[2:], inputs.dtype)] * 4] * 4
        parts, rest = _split((inputs, *gradient), count, length)
        total, of_inputs = lax.scan(step, zeros, parts)
        of_inputs = _joined(of_inputs)
        if rest:
            total, last = step(total, rest)
            of_inputs = jnp.concatenate([of_inputs, last])
    return of_inputs, jnp.stack([jnp.stack(row) for row in _both(_kernel_gradients, total)])


# One-dimensional transforms: of inputs Bᵀ, of the kernel G, of the outputs Aᵀ; and for gradients A
# and Gᵀ.


def _inputs_of(d: Sequence[Array]) -> list[Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _kernel(g: Sequence[Array]) -> list[Array]:
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def _outputs(m: Sequence[Array]) -> list[Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _inputs_gradients(v: Sequence[Array]) -> list[Array]:
    return [v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], -v[3]]


def _gradients(y: Sequence[Array]) -> list[Array]:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _kernel_gradients(u: Sequence[Array]) -> list[Array]:
    half = (u[1] + u[2]) / 2
    return [u[0] + half, (u[1] - u[2]) / 2, half + u[3]]


def _both(transform: Callable[[Sequence[Array]], list[Array]], tile: Tile) -> Tile:
    """Applies a one-dimensional transform along the columns and then the rows of a tile."""
    rows = zip(*[transform(column) for column in zip(*tile, strict=True)], strict=True)
    return [transform(row) for row in rows]


def _each(function: Callable[[Array, Array], Array], a: Tile, b: Tile) -> Tile:
    """Applies a function position by position."""
    return [[function(x, y) for x, y in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]


def _inputs(padded: Array) -> Tile:
    """Returns the transformed tiles of [B, 2h + 2, 2w + 2, I]: 4 × 4 arrays [B, h, w, I]."""
    quarters = _pairs(padded)
    h, w = quarters[0][0].shape[1] - 1, quarters[0][0].shape[2] - 1
    tile = [
        [quarters[i % 2][j % 2][:, i // 2 : i // 2 + h, j // 2 : j // 2 + w] for j in range(4)]
        for i in range(4)
    ]
    return _both(_inputs_of, tile)


def _pairs(x: Array) -> Tile:
    """Splits [B, 2h, 2w, C] into the 2 × 2 positions of its tiles, each [B, h, w, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return [[x[:, :, i, :, j] for j in range(2)] for i in range(2)]


def _interleaved(tile: Tile) -> Array:
    """Puts what `_pairs` splits together again."""
    batch, h, w, channels = tile[0][0].shape
    return jnp.stack([jnp.stack(row, axis=3) for row in tile], axis=2).reshape(
        batch, 2 * h, 2 * w, channels
    )


def _overlapped(tile: Tile) -> Array:
    """Adds tiles up that overlap by two: 4 × 4 arrays [B, h, w, C] to [B, 2h + 2, 2w + 2, C]."""

    def parts(n: int) -> list[list[tuple[int, slice]]]:
        first, last = (0, slice(0, 1)), (2, slice(n - 1, n))
        return [[first], [(0, slice(1, n)), (2, slice(0, n - 1))], [last]]

    def added(rows: list[tuple[int, slice]], columns: list[tuple[int, slice]]) -> Array:
        def at(i: int, j: int) -> Array:
            terms = (tile[i + p][j + q][:, r, c] for p, r in rows for q, c in columns)
            return reduce(jnp.add, terms)

        return _interleaved([[at(i, j) for j in (0, 1)] for i in (0, 1)])

    # The edges, where fewer tiles meet, are parts of their own: were the sum taken of tiles that
    # are padded with zeros, XLA would look for the edge at each element and take twice as long.
    _, h, w, _ = tile[0][0].shape
    return jnp.concatenate(
        [jnp.concatenate([added(r, c) for c in parts(w)], axis=2) for r in parts(h)], axis=1
    )


def _extent(inputs: Array, padding: Padding) -> tuple[int, int]:
    """Returns H' and W'."""
    height, width = (n + sum(p) - 2 for n, p in zip(inputs.shape[1:3], padding, strict=True))
    return height, width


def _even(inputs: Array, padding: Padding) -> Array:
    """Pads, with one row or column more where the outputs' number is odd."""
    height, width = _extent(inputs, padding)
    (top, bottom), (left, right) = padding
    return _pad(inputs, ((top, bottom + height % 2), (left, right + width % 2)))


def _whole(inputs: Array, padding: Padding) -> Padding:
    """Returns less padding, so that an odd last row or column of the outputs is left out."""
    height, width = _extent(inputs, padding)
    (top, bottom), (left, right) = padding
    return (top, bottom - height % 2), (left, right - width % 2)


def _in_chunks(
    function: Callable[..., PyTree], limit: int, inputs: Array, *others: Array
) -> PyTree:
    """Applies `function` to as many examples at a time as the limit allows."""
    batch = inputs.shape[0]
    count, length = _chunks(inputs.shape, inputs.nbytes, limit)
    if length == batch:
        return function(inputs, *others)
    parts, rest = _split((inputs, *others), count, length)
    outputs = jax.tree.map(_joined, lax.map(lambda part: function(*part), parts))
    if not rest:
        return outputs
    return jax.tree.map(lambda *x: jnp.concatenate(x), outputs, function(*rest))


def _chunks(shape: tuple[int, ...], size: int, limit: int) -> tuple[int, int]:
    """Returns how many parts of how many examples the batch has, a shorter one behind them apart.

    The transforms of a part, 4·size for the batch, are within the limit where it has more than one
    example. Equal parts need not be put together again; but a batch of small images, such as a
    prime number of them, may divide into none that are large enough.
    """
    batch, height, width, _ = shape
    most = min(batch, max(1, limit * batch // max(4 * size, 1)))
    needed = -(-batch // most)
    equal = next(n for n in range(needed, batch + 1) if batch % n == 0)
    tiles = batch // equal * -(-height // 2) * -(-width // 2)
    if equal <= 2 * needed or tiles >= ENOUGH_TILES:
        return equal, batch // equal
    length = -(-batch // needed)
    return batch // length, length


def _split(
    arrays: tuple[Array, ...], count: int, length: int
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Returns the parts, [count, length, ...], and what is behind them, which may be nothing."""
    end = count * length
    parts = tuple(x[:end].reshape(count, length, *x.shape[1:]) for x in arrays)
    return parts, () if end == arrays[0].shape[0] else tuple(x[end:] for x in arrays)


def _joined(parts: Array) -> Array:
    return parts.reshape(-1, *parts.shape[2:])


def _rows(x: Array) -> Array:
    # A product contracts one axis as it stands; for several, XLA transposes a copy first.
    return x.reshape(-1, x.shape[-1])


def _pad(x: Array, edges: Padding) -> Array:
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, [(0, 0, 0), *((*edge, 0) for edge in edges), (0, 0, 0)])
