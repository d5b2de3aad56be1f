"""A matrix worked on a few columns at a time.

So what a rule needs besides the matrix is no larger than its result, and on a CPU fits a cache: of
100 clients of LeNet all pairs' distances took about a third of the time.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_ecgr.types import Array


def columns_at_once() -> int:
    """Columns of a block: what a core's cache holds, or what keeps an accelerator busy."""
    return 2**11 if jax.default_backend() == "cpu" else 2**16


def each_column(function: Callable[[Array], Array], values: Array) -> Array:
    """Returns what `function`, [c, columns] to [columns], makes of [c, P]: [P]."""
    blocks = _num_blocks(values)
    if blocks == 1:
        return function(values)
    return jax.lax.map(lambda i: function(_block(values, i)), jnp.arange(blocks)).reshape(-1)


def sum_of_blocks(function: Callable[[Array], Array], values: Array) -> Array:
    """Returns the sum of what `function`, of [c, columns], makes of all blocks of [c, P]."""
    blocks = _num_blocks(values)
    if blocks == 1:
        return function(values)

    def add(total: Array, i: Array) -> tuple[Array, None]:
        return total + function(_block(values, i)), None

    start = jnp.zeros_like(jax.eval_shape(lambda: function(_block(values, 0))))
    return jax.lax.scan(add, start, jnp.arange(blocks))[0]


def _num_blocks(values: Array) -> int:
    return -(-values.shape[1] // columns_at_once())


def _block(values: Array, i: Array | int) -> Array:
    size = columns_at_once()
    return jax.lax.dynamic_slice_in_dim(values, i * size, size, axis=1)
