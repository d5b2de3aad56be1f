"""Convolutions with several kernels, as on an accelerator, against lax's, in float64."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from fedjax_ecgr.ops import convolution, grouped, measured
from tests.ops.test_convolution import (
    LAYOUT,
    PAIRS,
    conv_general_dilated,
    convolution_of_lax,
    derivatives,
    draw,
)

WAYS = ("lax", "windows", "banded", "blocks", "winograd")
FEW, MANY = (1, 2), (16, 17)
LAX = {"dimension_numbers": LAYOUT}
ours = PAIRS["convolution"][0]


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Computes as on an accelerator, where nothing is measured unless a test says how."""
    monkeypatch.setattr(convolution, "on_accelerator", lambda: True)
    monkeypatch.setattr(grouped, "fastest", None)


@pytest.fixture
def choose(monkeypatch):
    """A function by which a test chooses a way."""

    def choose(way):
        def fastest(operation, ways, operands, otherwise):
            assert way in ways, operation
            return way

        monkeypatch.setattr(grouped, "fastest", fastest)

    return choose


def tree_equal(a, b):
    chex.assert_trees_all_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("way", WAYS)
def test_derivatives_of_every_mode_equal_laxs_in_every_way(pair, way, choose, x64):
    choose(way)
    features = MANY if way == "winograd" else FEW
    x, dx = draw(0, *[(3, 2, 4, 6, features[0])] * 2)
    w, dw = draw(1, *[(3, 3, 3, *features)] * 2)
    (g,) = draw(2, (3, *jax.eval_shape(PAIRS[pair][1], x[0], w[0]).shape))
    both = [jax.jit(jax.vmap(derivatives(f)))((x, w), (dx, dw), g) for f in PAIRS[pair]]
    tree_equal(*both)


@pytest.mark.parametrize(
    ("strides", "padding", "way"),
    [
        *(((1, 1), ((1, 2), (0, 1)), way) for way in WAYS),
        *(((2, 1), "SAME", way) for way in ("lax", "windows", "banded")),
    ],
)
def test_outputs_and_gradients_of_members_of_clients(strides, padding, way, choose, x64):
    choose(way)
    features = MANY if way == "winograd" else FEW
    # two members, each with a kernel of its own at each of three clients, whose examples they share
    x, w = draw(3, (3, 2, 7, 5, features[0]), (2, 3, 3, 3, *features))

    def run(function):
        def of(x, w):
            out, pull = jax.vjp(lambda *a: function(*a, strides, padding, **LAX), x, w)
            return out, pull(jnp.cos(out))

        return jax.jit(jax.vmap(jax.vmap(of), in_axes=(None, 0)))(x, w)

    tree_equal(run(conv_general_dilated), run(jax.lax.conv_general_dilated))


AXES = [axes for axes in itertools.product((0, None), repeat=3) if axes != (None,) * 3]


@pytest.mark.parametrize("inner", AXES)
def test_whatever_is_mapped(inner, choose, x64):
    choose("windows")
    shapes = [(2, 4, 3, 2), (3, 2, 2, 3), (2, 4, 3, 3)]  # inputs, kernel, outputs
    arguments = draw(4, *[(2, 2, *shape) for shape in shapes])

    def run(function):
        def of(x, w, g):
            out, pull = jax.vjp(function, x, w)
            return out, pull(g)

        def all_of(*arguments):
            results = []
            for outer in AXES:
                given = [
                    a[(0 if j is None else slice(None), 0 if i is None else slice(None))]
                    for a, i, j in zip(arguments, inner, outer, strict=True)
                ]
                results.append(jax.vmap(jax.vmap(of, inner), outer)(*given))
            return results

        return jax.jit(all_of)(*arguments)

    tree_equal(run(ours), run(convolution_of_lax))


def test_mapped_over_other_axes_than_the_first(choose, x64):
    choose("windows")
    x, w = draw(5, (2, 4, 3, 5, 2), (3, 2, 2, 3, 5))
    run = [jax.vmap(f, (3, 4), 2)(x, w) for f in (ours, convolution_of_lax)]
    tree_equal(*run)


def steps(w, x):
    """Three steps of each of several clients, in a loop."""

    def loss(w, x):
        return jnp.sum(ours(x, w) ** 2)

    def step(w, _):
        return w - 1e-3 * jax.vmap(jax.grad(loss))(w, x), None

    return jax.lax.scan(step, w, None, 3)[0]


def test_in_a_loop_and_on_several_devices(choose, monkeypatch, x64):
    choose("banded")
    x, w = draw(6, (4, 2, 5, 5, 2), (4, 3, 3, 2, 3))
    mesh = jax.make_mesh((2,), ("clients",), (jax.sharding.AxisType.Auto,))
    split = PartitionSpec("clients")
    sharded = jax.shard_map(
        steps, mesh=mesh, in_specs=(split, split), out_specs=split, check_vma=False
    )
    by_products = jax.jit(sharded)(w, x)
    monkeypatch.setattr(convolution, "on_accelerator", lambda: False)
    jax.clear_caches()
    tree_equal(by_products, jax.jit(lambda w, x: steps(w, x))(w, x))


def test_windows_beyond_the_limit_are_made_a_part_at_a_time(choose, monkeypatch, x64):
    x, w = draw(7, (3, 5, 6, 6, 16), (3, 3, 3, 16, 16))

    def run(limit):
        monkeypatch.setattr(grouped, "LIMIT", limit)
        program = jax.jit(jax.vmap(lambda x, w: jax.vjp(ours, x, w)[1](ours(x, w))))
        return program(x, w), program.lower(x, w).as_text()

    for way in ("windows", "blocks", "winograd"):
        choose(way)
        (whole, program), (parts, loop) = run(2**30), run(1)
        assert "while" in loop
        assert "while" not in program
        tree_equal(whole, parts)


def operations(function, *arguments):
    """The convolutions and products of the compiled program."""
    program = jax.jit(function).lower(*arguments).compile().as_text()
    return [name for name in ("convolution", "dot") for _ in range(program.count(f" {name}("))]


@pytest.mark.usefixtures("optimised")
def test_a_single_kernel_is_laxs_own_convolution():
    x, w, g = jnp.ones((3, 2, 8, 8, 2)), jnp.ones((3, 3, 2, 4)), jnp.ones((3, 2, 8, 8, 4))

    def gradient(by):
        return lambda x, w, g: jax.vjp(ours, x, w)[1](g)[by]

    assert operations(ours, x[0], w) == ["convolution"]
    assert operations(jax.vmap(ours, (0, None)), x, w) == ["convolution"]
    assert operations(jax.vmap(ours), x[:1], w[None]) == ["convolution"]
    assert operations(gradient(0), x[0], w, g[0]) == ["convolution"]
    assert operations(gradient(1), x[0], w, g[0]) == ["convolution"]
    assert operations(jax.vmap(gradient(0), (0, None, 0)), x, w, g) == ["convolution"]


@pytest.mark.usefixtures("optimised")
def test_several_kernels_go_the_way_that_is_chosen(choose):
    x, w = jnp.ones((3, 2, 8, 8, 2)), jnp.ones((3, 3, 3, 2, 4))
    choose("windows")
    assert operations(jax.vmap(lambda x, w: ours(x, w)), x, w) == ["dot"]
    choose("lax")
    assert operations(jax.vmap(lambda x, w: ours(x, w)), x, w) == ["convolution"]


def test_several_processes_do_not_measure(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    x, w = jnp.ones((3, 2, 8, 8, 2)), jnp.ones((3, 3, 3, 2, 4))
    assert "dot_general" in jax.jit(jax.vmap(ours)).lower(x, w).as_text()


def test_whole_numbers_and_other_element_types_are_laxs():
    x, w = jnp.ones((3, 1, 4, 4, 2), jnp.int32), jnp.ones((3, 3, 3, 2, 2), jnp.int32)
    np.testing.assert_array_equal(jax.vmap(ours)(x, w), jax.vmap(convolution_of_lax)(x, w))
    x, w = (a.astype(jnp.bfloat16) for a in (x, w))
    wide = {"preferred_element_type": jnp.float32, **LAX}
    out = jax.vmap(lambda x, w: conv_general_dilated(x, w, (1, 1), "SAME", **wide))(x, w)
    assert out.dtype == jnp.float32


def test_the_precision_is_that_of_the_trace(choose):
    choose("windows")
    x, w = jnp.ones((3, 1, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 2))
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(jax.vmap(lambda x, w: ours(x, w))).trace(x, w)
    assert "HIGHEST" in traced.lower().as_text()


def test_measured_as_it_is_compiled_and_never_again(monkeypatch):
    monkeypatch.setattr(grouped, "fastest", measured.fastest)
    monkeypatch.setattr(measured, "_known", {})
    runs = []
    monkeypatch.setattr(measured, "seconds", lambda *_: float(runs.append(1) or len(runs)))
    x, w = jnp.ones((3, 1, 4, 5, 2)), jnp.ones((3, 3, 3, 2, 3))
    first = jax.jit(lambda w, x: steps(w, x))(w, x)
    ways = ("lax", "windows", "banded", "blocks")
    assert len(runs) == 2 * len(ways)  # the outputs and the kernel's gradient
    assert [set(times) for times in measured._known.values()] == [set(ways)] * 2
    jax.clear_caches()
    np.testing.assert_array_equal(jax.jit(lambda w, x: steps(w, x))(w, x), first)
    assert len(runs) == 2 * len(ways)
