"""What makes tests, and processes of theirs, quicker to trace and compile.

Their keys are of a kind whose random bits compile in a fraction of the time that JAX's own take. A
simulation draws by whatever generator its key is of, and so does a plain loop; of what XLA does for
a small simulation, Threefry is a sixth to a third.
"""

import gc
import math
import os
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from fedjax_ecgr.engine import streams


def _mixed(x):
    """Each 32-bit word by itself, a bijection: `lowbias32` of C. Wellons, hash-prospector."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> jnp.full_like(x, shift))) * jnp.full_like(x, factor)
    return x ^ (x >> jnp.full_like(x, 16))


@partial(jax.jit, inline=True)
def _fold_in(words, number):
    return _mixed(_mixed(words) + number.astype(jnp.uint32)[None])


@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _bits(words, width, shape):
    if width == 64:
        low, high = _bits(words, 32, (2, *shape)).astype(jnp.uint64)
        return low | (high << jnp.full_like(high, 32))
    places = jnp.arange(math.prod(shape), dtype=jnp.uint32)
    drawn = _mixed(_mixed(places + words) ^ words)
    return drawn.reshape(shape).astype(f"uint{width}")


IMPL = define_prng_impl(
    key_shape=(1,),
    seed=lambda seed: _mixed(seed.astype(jnp.uint32)[None]),
    split=lambda words, shape: _bits(words, 32, shape)[..., None],
    random_bits=_bits,
    fold_in=_fold_in,
    name="short",
    tag="short",
)


THREEFRY = jax.random.key
ASKED = "TESTS_DRAW_QUICKLY"


def use():
    """Has `jax.random.key` and runs take such keys, here and in tests' processes that call this."""
    if ASKED in os.environ:
        jax.random.key = partial(THREEFRY, impl=IMPL)
        streams.IMPL = IMPL
    # traces are many small objects that stay: looking through them again and again takes a tenth
    gc.set_threshold(100_000, 50, 1000)
