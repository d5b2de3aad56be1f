"""The larger networks and their layers against lax's and flax's operations, and formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import fedjax_ecgr as fx
from fedjax_ecgr.models import MODELS, layers
from fedjax_ecgr.models.initial import RULES
from tests.models.alive import drawn

KEY = jax.random.key(0)
conv = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.jit, static_argnums=(1, 2))
def pool(x, side=2, edge=0):
    """Max-pooling with stride 2, padded with nothing that could be the largest."""
    window, edges = (1, side, side, 1), ((0, 0), (edge, edge), (edge, edge), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, (1, 2, 2, 1), edges)


@functools.partial(jax.jit, static_argnames=("edge", "stride"))
def convolved(params, x, edge, stride=1):
    y = conv(x, params["kernel"], (stride, stride), ((edge, edge),) * 2)
    return y + params["bias"].reshape(1, 1, 1, -1) if "bias" in params else y


def dense(params, x):
    return np.asarray(x) @ params["kernel"] + params["bias"]


def relu(x):
    return np.maximum(x, 0)


def built(name, spec, **options):
    """Returns the model, parameters that are all alive, and statistics that are not 0 and 1."""
    model = MODELS[name](spec, dtype=jnp.float64, **options)
    return model, *drawn(model)


def run(model, params, stats, x, train=False, key=KEY):
    mask = np.ones(len(x), bool)
    apply = jax.jit(model.apply, static_argnames="train")
    return jax.device_get(apply(params, stats, x, mask=mask, train=train, key=key))


def images(*shape):
    return np.random.default_rng(1).normal(size=shape)


# ---------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 7, 5, 2), (1, 1, 2, 1)])
def test_overlapping_max_pool_behind_a_relu(x64, shape):
    def own(x):
        return layers.overlapping_max_pool(jax.nn.relu(x))

    def expected(x):
        return pool(jax.nn.relu(x), side=3, edge=1)

    @functools.partial(jax.jit, static_argnums=1)
    def with_gradient(x, f):
        return f(x), jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))(x)

    x = images(*shape)
    (found, slope), (wanted, expected_slope) = (with_gradient(x, f) for f in (own, expected))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-12)


def test_local_response_norm_is_its_sum_over_four_channels(x64):
    x = images(2, 3, 2, 6)
    found = np.asarray(layers.local_response_norm(jnp.asarray(x)))
    for c in range(6):
        near = [d for d in range(c - 2, c + 2) if 0 <= d < 6]
        mean = np.sum(x[..., near] ** 2, axis=-1) / 4
        np.testing.assert_allclose(found[..., c], x[..., c] / (1 + 0.001 / 9 * mean) ** 0.75)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm_is_flaxs(x64, groups):
    x, rng = images(3, 4, 5, 6), np.random.default_rng(2)
    params = {name: rng.normal(size=6) for name in ("scale", "bias")}
    with jax.numpy_dtype_promotion("standard"):
        flaxs = linen.GroupNorm(groups, epsilon=1e-5, param_dtype=float)
        expected = jax.jit(flaxs.apply)({"params": params}, x)
    np.testing.assert_allclose(layers.group_norm(params, x, groups), expected, rtol=1e-10)


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    x = jnp.ones((200, 500))
    dropped = np.asarray(layers.dropout(KEY, x, 0.25, train=True))
    np.testing.assert_allclose(np.unique(dropped), [0, 4 / 3], rtol=1e-6)
    assert abs((dropped == 0).mean() - 0.25) < 0.006  # 4 standard deviations
    assert layers.dropout(KEY, x, 0.25, train=False) is x


def test_an_mlp_drops_behind_each_hidden_layer_in_training_alone():
    spec = fx.Spec((5,), 3)
    plain, dropping = (fx.models.mlp(spec, hidden=(40,), drop=drop) for drop in (0.0, 0.5))
    params, _ = jax.jit(plain.init)(KEY)
    x, mask = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32), np.ones(2)

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def outputs(model, key, train):
        return model.apply(params, {}, x, mask=mask > 0, train=train, key=key)[0]

    exact = outputs(plain, KEY, True)
    np.testing.assert_array_equal(outputs(dropping, KEY, False), exact)
    keys = jax.random.split(KEY, 4000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda k: outputs(dropping, k, True)))(keys))
    spread = drawn.std(axis=0) / np.sqrt(4000)  # the last layer is linear in what is dropped
    assert (spread > 1e-4).all()
    assert (np.abs(drawn.mean(axis=0) - exact) < 5 * spread).all()


@pytest.mark.parametrize(("kernel", "edge"), [(3, 1), (1, 0), (7, 3)])
def test_convolutions_with_stride(x64, kernel, edge):
    x = images(2, 9, 8, 4)
    rng = np.random.default_rng(2)
    params = {"kernel": rng.normal(size=(kernel, kernel, 4, 5)), "bias": rng.normal(size=5)}
    found = jax.jit(lambda p, x: layers.conv(p, x, ((edge, edge),) * 2, stride=2))(params, x)
    np.testing.assert_allclose(found, convolved(params, x, edge, 2), rtol=1e-10, atol=1e-12)


# -------------------------------------------------------------------------------- networks


def test_alexnet_is_its_definition(x64):
    model, p, stats = built("alexnet", fx.Spec((9, 8, 3), 4))
    x = images(2, 9, 8, 3)
    norm = layers.local_response_norm
    h = pool(relu(convolved(p["conv1"], x, 2)), 3, 1)
    h = relu(convolved(p["conv2"], norm(h), 2))
    h = pool(norm(h), 3, 1).reshape(2, -1)
    h = relu(dense(p["fc2"], relu(dense(p["fc1"], h))))
    np.testing.assert_allclose(run(model, p, stats, x)[0], dense(p["fc3"], h), rtol=1e-9)


@pytest.mark.parametrize(("name", "edge"), [("fedavg_cnn", 2), ("pfllib_cnn", 0)])
def test_the_fedavg_papers_network_and_pfllibs_are_their_definitions(x64, name, edge):
    model, p, stats = built(name, fx.Spec((17, 16, 1), 3))
    h = x = images(2, 17, 16, 1)
    for layer in ("conv1", "conv2"):
        h = pool(relu(convolved(p[layer], h, edge)))
    h = relu(dense(p["fc1"], h.reshape(2, -1)))
    np.testing.assert_allclose(run(model, p, stats, x)[0], dense(p["fc2"], h), rtol=1e-9)


def test_pfls_network_is_its_definition_and_drops_in_training(x64):
    model, p, stats = built("pfl_cnn", fx.Spec((9, 8, 3), 4))
    x = images(2, 9, 8, 3)
    h = relu(convolved(p["conv1"], x, 0))
    h = pool(relu(convolved(p["conv2"], h, 0))).reshape(2, -1)
    h = relu(dense(p["fc1"], h))
    evaluated = run(model, p, stats, x)[0]
    np.testing.assert_allclose(evaluated, dense(p["fc2"], h), rtol=1e-9)

    one, other = (run(model, p, stats, x, train=True, key=jax.random.key(i))[0] for i in range(2))
    assert not np.allclose(one, other)
    features = jax.jit(functools.partial(model.features, train=True))(
        p, stats, x, mask=np.ones(2, bool), key=jax.random.key(2)
    )
    assert abs((np.asarray(features) == 0)[np.asarray(h) > 0].mean() - 0.5) < 0.15


def test_vgg11_is_its_definition(x64):
    model, p, stats = built("vgg11", fx.Spec((64, 33, 3), 4), width=2)
    h = x = images(2, 64, 33, 3)
    for number in range(1, 9):
        h = relu(convolved(p[f"conv{number}"], h, 1))
        if number in (1, 2, 4, 6, 8):
            h = pool(h)
    found, new = run(model, p, stats, x, train=True)
    np.testing.assert_allclose(found, dense(p["fc1"], np.mean(h, (1, 2))), rtol=1e-9)
    assert not jax.tree.leaves((new, stats))


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_resnet18_is_its_definition(x64, stem, norm):
    model, p, stats = built("resnet18", fx.Spec((35, 32, 3), 4), stem=stem, norm=norm, width=4)
    x = images(2, 35, 32, 3)

    @functools.partial(jax.jit, static_argnames=("edge", "stride"))
    def layer(params, stats, x, edge, stride=1):
        y = convolved(params["conv"], x, edge, stride)
        scale, shift = (params["norm"][name].reshape(1, 1, 1, -1) for name in ("scale", "bias"))
        if norm == "group":
            parts = y.reshape(*y.shape[:3], 2, -1)
            y = (parts - parts.mean((1, 2, 4), keepdims=True)) / jnp.sqrt(
                parts.var((1, 2, 4), keepdims=True) + 1e-5
            )
            return y.reshape(*parts.shape[:3], -1) * scale + shift
        mean, var = (stats[name].reshape(1, 1, 1, -1) for name in ("mean", "var"))
        return (y - mean) / jnp.sqrt(var + 1e-5) * scale + shift

    if stem == "imagenet":
        h = pool(relu(layer(p["stem"], stats["stem"], x, 3, 2)), 3, 1)
    else:
        h = relu(layer(p["stem"], stats["stem"], x, 1))
    for number in range(1, 9):
        own, known = p[f"block{number}"], stats[f"block{number}"]
        stride = 2 if number in (3, 5, 7) else 1
        y = relu(layer(own["first"], known["first"], h, 1, stride))
        y = layer(own["second"], known["second"], y, 1)
        assert ("shortcut" in own) == (stride == 2)
        if stride == 2:
            h = layer(own["shortcut"], known["shortcut"], h, 0, 2)
        h = relu(h + y)
    found, _ = run(model, p, stats, x)
    np.testing.assert_allclose(found, dense(p["fc1"], np.mean(h, (1, 2))), rtol=1e-8)


def test_batch_normalisation_of_a_residual_network_moves_every_statistic(x64):
    model, p, stats = built("resnet18", fx.Spec((16, 16, 1), 3), width=2, groups=1)
    _, new = run(model, p, stats, images(4, 16, 16, 1), train=True)
    moved = jax.tree.map(lambda a, b: bool(np.all(a != b)), new, stats)
    assert all(jax.tree.leaves(moved))


# ---------------------------------------------------------------------------- how they start


@pytest.mark.parametrize("rule", RULES)
def test_kernels_and_biases_start_as_the_rule_says(rule):
    params, _ = jax.jit(MODELS["pfl_cnn"](fx.Spec((16, 16, 3), 10), initial=rule).init)(KEY)
    fans = {"conv1": (27, 288), "conv2": (288, 576), "fc1": (2304, 128), "fc2": (128, 10)}
    for name, (inputs, outputs) in fans.items():
        kernel, bias = (np.asarray(params[name][part]) for part in ("kernel", "bias"))
        variance = {
            "pytorch": 1 / (3 * inputs),
            "glorot": 2 / (inputs + outputs),
            "he": 2 / inputs,
            "lecun": 1 / inputs,
        }[rule]
        spread = kernel.var() / variance
        assert abs(spread - 1) < 5 * (2 / kernel.size) ** 0.5
        if rule == "pytorch":
            assert 0 < np.abs(bias).max() <= inputs**-0.5
        else:
            assert not bias.any()


def test_normalisations_start_at_one_and_the_defaults_are_pytorchs():
    spec = fx.Spec((32, 32, 3), 3)
    params, _ = jax.jit(MODELS["vgg11"](spec, norm="batch", width=2, initial="he").init)(KEY)
    assert np.all(params["norm1"]["scale"] == 1)
    for name in ("mlp", "lenet", "bncnn"):
        options = {}, {"initial": "pytorch"}
        one, same = (jax.jit(MODELS[name](spec, **x).init)(KEY) for x in options)
        jax.tree.map(np.testing.assert_array_equal, one, same)


@pytest.mark.parametrize(
    ("name", "side", "options", "message"),
    [
        ("resnet18", 8, {"stem": "image"}, "stem: unknown 'image', did you mean 'imagenet'"),
        ("resnet18", 8, {"norm": "layer"}, "norm: unknown 'layer'"),
        ("resnet18", 8, {"norm": "group", "groups": 3}, "groups: 3 is not allowed, it must divide"),
        ("resnet18", 8, {"groups": 65}, "groups: 65 is not allowed"),
        ("vgg11", 31, {}, "31x31 images are too small for five poolings"),
        ("vgg11", 32, {"width": 0}, "width: 0 is not allowed"),
        ("pfl_cnn", 5, {}, "5x5 images are too small"),
        ("pfl_cnn", 6, {"drop": (0.1,)}, r"drop: \(0.1,\) is not allowed, it must be two"),
        ("pfl_cnn", 6, {"drop": (0.1, 1.0)}, "drop: 1.0 is not allowed"),
        ("pfllib_cnn", 15, {}, "15x15 images are too small"),
        ("fedavg_cnn", 3, {}, "3x3 images are too small"),
        ("alexnet", 8, {"initial": "zero"}, "initial: unknown 'zero'"),
    ],
)
def test_what_networks_do_not_take(name, side, options, message):
    with pytest.raises(fx.InputError, match=message):
        MODELS[name](fx.Spec((side, side, 3), 3), **options)
