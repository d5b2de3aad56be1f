"""The convolution by matrix products against lax's, in float64: outputs and both gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_ecgr.ops import banded, winograd
from fedjax_ecgr.ops.banded import tile_width
from fedjax_ecgr.ops.convolution import LAYOUT, conv_general_dilated, conv_max_pool
from fedjax_ecgr.ops.pooling import max_pool

EDGE = st.tuples(st.integers(0, 2), st.integers(0, 2))


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(jnp.result_type(float)) for shape in shapes]


def outputs_and_gradients(function, x, w, *args):
    out, pull = jax.vjp(lambda x, w: function(x, w, *args, dimension_numbers=LAYOUT), x, w)
    return out, *pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-10)


def assert_equals_lax(x, w, *args):
    both = jax.jit(
        lambda x, w: [
            outputs_and_gradients(function, x, w, *args)
            for function in (conv_general_dilated, jax.lax.conv_general_dilated)
        ]
    )
    assert_equal(*both(x, w))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    features=st.sampled_from([(1, 3), (2, 1), (3, 30)]),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(EDGE, EDGE)),
    chunk_bytes=st.sampled_from([1, 4 * 2**20]),
)
def test_equals_lax(batch, size, kernel, features, strides, padding, chunk_bytes):
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(banded, "CHUNK_BYTES", chunk_bytes)
        x, w = draw(0, (batch, *size, features[0]), (*kernel, *features))
        assert_equals_lax(x, w, strides, padding)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 6),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    features=st.sampled_from([(16, 17), (20, 16)]),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(EDGE, EDGE)),
    chunk_bytes=st.sampled_from([1, 2**16, 2**26]),
)
def test_many_channels_go_winograds_way_and_equal_lax(batch, size, features, padding, chunk_bytes):
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "FORWARD_BYTES", chunk_bytes)
        patch.setattr(winograd, "BACKWARD_BYTES", chunk_bytes)
        patch.setattr(banded, "convolve", None)
        x, w = draw(0, (batch, *size, features[0]), (3, 3, *features))
        assert_equals_lax(x, w, (1, 1), padding)


def test_winograd_in_float32_loses_little_to_the_plain_sum():
    x, w = draw(5, (8, 16, 16, 64), (3, 3, 64, 64))
    assert x.dtype == jnp.float32
    ours = jax.jit(convolution)(x, w)
    with jax.enable_x64(True):
        truth = jax.jit(convolution_of_lax)(x.astype(float), w.astype(float))
    error = np.abs(np.asarray(ours, float) - np.asarray(truth))
    assert error.max() < 2e-6 * np.abs(truth).max()


def pool_of_lax(x, w, padding):
    out = jax.lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=LAYOUT)
    b, h, width, o = out.shape
    return (
        out[:, : h // 2 * 2, : width // 2 * 2].reshape(b, h // 2, 2, width // 2, 2, o).max((2, 4))
    )


def assert_pools_as_lax(x, w, padding):
    shape = jax.eval_shape(lambda x, w: pool_of_lax(x, w, padding), x, w).shape
    g = np.cos(np.arange(np.prod(shape), dtype=x.dtype)).reshape(shape)

    def both(x, w, g):
        sides = []
        for function in (conv_max_pool, pool_of_lax):
            out, pull = jax.vjp(lambda x, w, f=function: f(x, w, padding), x, w)
            sides.append((out, *pull(g)))
        return sides

    assert_equal(*jax.jit(both)(x, w, g))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    features=st.sampled_from([(1, 3), (3, 20)]),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(EDGE, EDGE)),
    chunk_bytes=st.sampled_from([1, 4 * 2**20]),
)
def test_pooled_convolution_equals_pooling_of_laxs(
    batch, size, kernel, features, padding, chunk_bytes
):
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(banded, "CHUNK_BYTES", chunk_bytes)
        assert_pools_as_lax(*draw(6, (batch, *size, features[0]), (*kernel, *features)), padding)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 6),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    features=st.sampled_from([(16, 17), (20, 16)]),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(EDGE, EDGE)),
    chunk_bytes=st.sampled_from([1, 2**16, 2**26]),
)
def test_many_channels_are_pooled_winograds_way_and_equal_laxs(
    batch, size, features, padding, chunk_bytes
):
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "FORWARD_BYTES", chunk_bytes)
        patch.setattr(winograd, "BACKWARD_BYTES", chunk_bytes)
        patch.setattr(banded, "convolve_max_pool", None)
        assert_pools_as_lax(*draw(7, (batch, *size, features[0]), (3, 3, *features)), padding)


def convolution(x, w):
    return conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)


def convolution_of_lax(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)


PAIRS = {
    "convolution": (convolution, convolution_of_lax),
    "pooled": (
        lambda x, w: conv_max_pool(x, w, ((2, 0), (0, 1))),
        lambda x, w: pool_of_lax(x, w, ((2, 0), (0, 1))),
    ),
}


def derivatives(function):
    """(x, w), a direction and weights of the outputs -> derivatives of every mode, by name."""

    def loss(point, g):
        return jnp.sum(g * function(*point) ** 3)

    def of(point, direction, g):
        linear = jax.linearize(function, *point)[1]
        return {
            "jvp": jax.jvp(function, point, direction)[1],
            "only the kernel": jax.jvp(lambda w: function(point[0], w), point[1:], direction[1:]),
            "linearize": linear(*direction),
            "transposed": jax.linear_transpose(linear, *point)(g),
            "forward over reverse": jax.jvp(lambda p: jax.grad(loss)(p, g), (point,), (direction,)),
            "reverse over forward": jax.grad(
                lambda p: jax.jvp(lambda q: loss(q, g), (p,), (direction,))[1]
            )(point),
            "reverse over reverse": jax.vjp(lambda p: jax.grad(loss)(p, g), point)[1](direction),
            "forward over forward": jax.jvp(
                lambda *p: jax.jvp(function, p, direction)[1], point, direction
            ),
        }

    return of


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("size", "features", "chunk_bytes"),
    [((5, 6), (1, 2), 2**26), ((5, 6), (16, 17), 2**26), ((6, 4), (17, 16), 1)],
    ids=["few", "many channels", "many channels in chunks"],
)
def test_derivatives_of_every_mode_equal_laxs(pair, size, features, chunk_bytes, monkeypatch):
    monkeypatch.setattr(winograd, "FORWARD_BYTES", chunk_bytes)
    monkeypatch.setattr(winograd, "BACKWARD_BYTES", chunk_bytes)
    with jax.enable_x64(True):
        x, w, dx, dw = draw(8, *[(2, *size, features[0]), (3, 3, *features)] * 2)
        ours, theirs = PAIRS[pair]
        (g,) = draw(9, jax.eval_shape(theirs, x, w).shape)
        ours, theirs = (jax.jit(derivatives(f))((x, w), (dx, dw), g) for f in (ours, theirs))
        chex.assert_trees_all_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("features", [(1, 2), (16, 16)], ids=["few", "many channels"])
def test_derivatives_of_every_mode_under_vmap_equal_a_loop(pair, features):
    with jax.enable_x64(True):
        x, dx, w, dw = draw(10, *[(2, 4, 6, features[0])] * 2, *[(3, 3, 3, *features)] * 2)
        (g,) = draw(11, (3, *jax.eval_shape(PAIRS[pair][1], x, w[0]).shape))
        of = derivatives(PAIRS[pair][0])

        # kernels of three clients over the same inputs
        def run(w, dw, g):
            return of((x, w), (dx, dw), g)

        alone = jax.jit(run)
        loop = [alone(*parts) for parts in zip(w, dw, g, strict=True)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *loop)
        chex.assert_trees_all_close(jax.jit(jax.vmap(run))(w, dw, g), stacked, rtol=1e-9, atol=1e-9)


def test_derivatives_of_pooling_equal_laxs():
    def ours(x, w):
        return max_pool(x * w)

    def theirs(x, w):
        window = (1, 2, 2, 1)
        return jax.lax.reduce_window(x * w, -jnp.inf, jax.lax.max, window, window, "VALID")

    with jax.enable_x64(True):
        x, w, dx, dw = draw(12, *[(2, 5, 6, 3)] * 4)
        (g,) = draw(13, (2, 2, 3, 3))
        ours, theirs = (jax.jit(derivatives(f))((x, w), (dx, dw), g) for f in (ours, theirs))
        chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "expected"), [((1, 1, 1, 2), 2), ((3, 3, 16, 16), 16)], ids=["few", "many channels"]
)
def test_pooled_convolution_sends_the_gradient_to_the_first_of_equals(kernel, expected):
    middle, x = np.zeros(kernel, np.float32), np.ones((1, 4, 4, kernel[2]), np.float32)
    middle[kernel[0] // 2, kernel[1] // 2] = 1
    gradient = jax.jit(jax.grad(lambda x: conv_max_pool(x, jnp.asarray(middle), "SAME").sum()))(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[expected, 0, expected, 0], [0] * 4] * 2)


@pytest.mark.parametrize("t", [1, 3, 7])
def test_every_tile_width_gives_the_same(t, monkeypatch):
    monkeypatch.setattr(banded, "tile_width", lambda *_: t)
    with jax.enable_x64(True):
        x, w = draw(1, (2, 6, 15, 2), (3, 4, 2, 3))
        assert_equals_lax(x, w, (1, 2), "SAME")


def test_a_batch_that_the_chunks_do_not_divide(monkeypatch):
    monkeypatch.setattr(banded, "CHUNK_BYTES", 4096 * 8)
    with jax.enable_x64(True):
        x, w = draw(2, (11, 8, 8, 4), (3, 3, 4, 5))
        program = jax.make_jaxpr(
            lambda x, w: outputs_and_gradients(conv_general_dilated, x, w, (1, 1), "SAME")
        )
        assert "scan" in str(program(x, w))
        assert_equals_lax(x, w, (1, 1), "SAME")


@pytest.mark.parametrize("pooled", [False, True])
def test_a_prime_batch_goes_winograds_way_in_few_parts(pooled, monkeypatch):
    for name in ("FORWARD_BYTES", "BACKWARD_BYTES"):  # of 4 and 2 examples
        monkeypatch.setattr(winograd, name, 4 * 4 * 8 * 6 * 6 * 16)
    monkeypatch.setattr(banded, "convolve", None)
    monkeypatch.setattr(banded, "convolve_max_pool", None)
    with jax.enable_x64(True):
        x, w = draw(2, (7, 6, 6, 16), (3, 3, 16, 16))
        if pooled:
            assert_pools_as_lax(x, w, "SAME")
        else:
            assert_equals_lax(x, w, (1, 1), "SAME")


@given(
    batch=st.integers(1, 300),
    side=st.integers(1, 40),
    size=st.integers(1, 500),
    limit=st.integers(0, 4000),
)
def test_parts_of_a_batch_are_within_the_limit_and_large_enough(batch, side, size, limit):
    count, length = winograd._chunks((batch, side, side, 1), batch * size, limit)
    rest = batch - count * length
    assert 0 <= rest < length
    assert length == 1 or 4 * size * length <= limit
    needed = -(-batch // max(1, limit // (4 * size)))
    tiles = length * (-(-side // 2)) ** 2
    assert count + (rest > 0) <= 2 * needed or tiles >= winograd.ENOUGH_TILES


def test_vmap_and_scan_over_kernels_equal_a_loop():
    with jax.enable_x64(True):
        x, w = draw(3, (3, 2, 7, 7, 2), (3, 3, 3, 2, 4))

        def run(pair):
            return outputs_and_gradients(conv_general_dilated, *pair, (1, 1), "SAME")

        loop = [jax.jit(run)(pair) for pair in zip(x, w, strict=True)]
        stacked = [np.stack(parts) for parts in zip(*loop, strict=True)]
        assert_equal(jax.jit(jax.vmap(run))((x, w)), stacked)
        assert_equal(jax.jit(lambda pairs: jax.lax.map(run, pairs))((x, w)), stacked)


def test_becomes_matrix_products_only():
    x, w = jnp.ones((2, 6, 6, 2)), jnp.ones((3, 3, 2, 4))

    def loss(x, w):
        return jnp.sum(conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT))

    program = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, w))
    assert "dot_general" in program
    assert "conv_general_dilated" not in program


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((1, 2, 6, 6), (3, 2, 3, 3)), {}),
        (((1, 6, 6, 2), (3, 3, 1, 4)), {"dimension_numbers": LAYOUT, "feature_group_count": 2}),
        (((1, 6, 6, 2), (3, 3, 2, 4)), {"dimension_numbers": LAYOUT, "rhs_dilation": (2, 2)}),
        (((1, 6, 6, 2), (3, 3, 2, 4)), {"dimension_numbers": LAYOUT, "lhs_dilation": (2, 1)}),
        (((1, 2, 2, 2), (3, 3, 2, 4)), {"dimension_numbers": LAYOUT}),
    ],
    ids=["NCHW", "groups", "kernel dilation", "input dilation", "nothing fits"],
)
def test_anything_else_is_laxs(shapes, options):
    x, w = draw(4, *shapes)
    valid = ((0, 0), (0, 0))
    ours = conv_general_dilated(x, w, (1, 1), valid, **options)
    theirs = jax.lax.conv_general_dilated(x, w, (1, 1), valid, **options)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("features", [2, 16], ids=["few", "many channels"])
def test_whole_numbers_equal_laxs(features):
    x, w = jnp.ones((1, 4, 4, features), jnp.int32), jnp.ones((3, 3, features, 16), jnp.int32)
    ours, theirs = (
        function(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)
        for function in (conv_general_dilated, jax.lax.conv_general_dilated)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_element_type_of_the_outputs():
    x, w = jnp.ones((1, 4, 4, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 2), jnp.bfloat16)
    options = {"dimension_numbers": LAYOUT, "preferred_element_type": jnp.float32}
    assert conv_general_dilated(x, w, (1, 1), "SAME", **options).dtype == jnp.float32


def test_a_flax_layer_takes_it():
    ours, theirs = (
        nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0), conv_general_dilated=function)
        for function in (conv_general_dilated, jax.lax.conv_general_dilated)
    )
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 2))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "width", "expected"),
    [((5, 5, 6, 16), 10, 5), ((3, 3, 64, 64), 32, 1), ((3, 3, 256, 256), 8, 1)],
    ids=["narrow", "64 channels", "256 channels"],
)
def test_tiles_are_wide_where_channels_are_few(kernel, width, expected):
    assert tile_width(kernel, 1, width) == expected
