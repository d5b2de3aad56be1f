"""Models and their layers against loops and PyTorch's formulas, written out in NumPy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import fedjax_ecgr as fx
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models import MODELS, bncnn, from_linen, from_nnx, lenet, mlp
from fedjax_ecgr.models.layers import batch_norm, batch_norm_init
from fedjax_ecgr.ops.pooling import max_pool
from tests.models.alive import drawn

KEY = jax.random.key(0)
SMALL = {
    "logistic_regression": (Spec((5,), 3), {}),
    "mlp": (Spec((4, 4, 1), 3), {"hidden": (6, 5)}),
    "lenet": (Spec((13, 12, 1), 3), {}),
    "niid_cnn": (Spec((17, 16, 1), 3), {}),
    "bncnn": (Spec((6, 6, 1), 3), {"blocks": ((2, 3),), "hidden": (5,)}),
    "gru": (Spec((4,), 3, vocabulary=6), {"embedding": 2, "hidden": (5,)}),
    "alexnet": (Spec((5, 6, 1), 3), {}),
    "fedavg_cnn": (Spec((4, 5, 1), 3), {}),
    "pfl_cnn": (Spec((6, 7, 1), 3), {"drop": (0.0, 0.0)}),
    "pfllib_cnn": (Spec((16, 17, 1), 3), {}),
    "resnet18": (Spec((9, 8, 2), 3), {"width": 2, "groups": 1}),
    "vgg11": (Spec((33, 32, 1), 3), {"width": 2, "norm": "group"}),
}


@functools.cache
def small(name, dtype=jnp.float32):
    """A model at a small size, its examples' shape, parameters and statistics."""
    spec, given = SMALL[name]
    model = MODELS[name](spec, **given, dtype=dtype)
    return model, spec, *drawn(model)


def batch(spec, rows, seed=0, dtype=np.float32):
    rng, shape = np.random.default_rng(seed), (rows, *spec.input_shape)
    if spec.vocabulary is not None:
        return rng.integers(0, spec.vocabulary, shape).astype(np.int32)
    return rng.normal(size=shape).astype(dtype)


def replaced(x, index, values):
    x = x.copy()
    x[index] = values
    return x


def apply(model, params, stats, x, mask=None, train=True):
    mask = np.ones(x.shape[0], bool) if mask is None else mask
    run = jax.jit(model.apply, static_argnames="train")
    return run(params, stats, x, mask=mask, train=train, key=KEY)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# ---------------------------------------------------------------------------- max-pooling


def pool_by_loop(x, g):
    """PyTorch's max-pooling: the first of the largest in reading order takes the gradient."""
    rows, height, width, channels = x.shape
    out, dx = np.zeros((rows, height // 2, width // 2, channels)), np.zeros_like(x)
    for b, i, j, c in np.ndindex(*out.shape):
        window = [(2 * i + a, 2 * j + k) for a in range(2) for k in range(2)]
        values = [x[b, p, q, c] for p, q in window]
        first = int(np.argmax(values))
        out[b, i, j, c] = values[first]
        dx[b, *window[first], c] = g[b, i, j, c]
    return out, dx


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2)], ids=["even", "odd"])
def test_max_pool_equals_a_loop_also_where_values_tie(shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, shape).astype(np.float32)
    out, pull = jax.vjp(max_pool, jnp.asarray(x))
    g = rng.normal(size=out.shape).astype(np.float32)
    expected, expected_dx = pool_by_loop(x, g)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(pull(jnp.asarray(g))[0], expected_dx)


# ---------------------------------------------------------------------- batch normalisation


def normalized(rows, mean, var):
    return (rows - mean) / np.sqrt(var + 1e-5) * 1.5 - 0.5


def test_batch_norm_is_pytorchs_over_the_rows_that_count():
    with jax.enable_x64(True):
        x = np.random.default_rng(1).normal(2, 3, size=(5, 3, 2, 4))
        mask = np.array([True, False, True, True, False])
        x[1], x[4] = np.nan, 1e30
        params = {"scale": jnp.full(4, 1.5), "bias": jnp.full(4, -0.5)}
        stats = {"mean": jnp.full(4, 0.3), "var": jnp.full(4, 0.7)}
        y, new = batch_norm(params, stats, jnp.asarray(x), mask=jnp.asarray(mask), train=True)

        rows = x[mask].reshape(-1, 4)
        expected = normalized(x[mask], rows.mean(0), rows.var(0))
        np.testing.assert_allclose(y[mask], expected, rtol=1e-12)
        np.testing.assert_allclose(new["mean"], 0.9 * 0.3 + 0.1 * rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(new["var"], 0.9 * 0.7 + 0.1 * rows.var(0, ddof=1), rtol=1e-12)

        y, same = batch_norm(params, stats, jnp.asarray(x), mask=jnp.asarray(mask), train=False)
        np.testing.assert_allclose(y[mask], normalized(x[mask], 0.3, 0.7), rtol=1e-12)
        assert same is stats


@pytest.mark.parametrize(("rows", "mean"), [(0, 0.0), (1, 0.2)])
def test_batch_norm_of_no_value_and_of_one(rows, mean):
    params, stats = batch_norm_init(3, jnp.float32)
    mask = jnp.arange(4) < rows
    y, new = batch_norm(params, stats, jnp.full((4, 1, 1, 3), 2.0), mask=mask, train=True)
    assert np.all(np.isfinite(y))
    np.testing.assert_allclose(new["mean"], np.full(3, mean), rtol=1e-6)
    np.testing.assert_array_equal(new["var"], np.ones(3))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_batch_norm_in_half_precision_holds_its_sums(dtype):
    """65,536 values are more than float16 holds, 256 rows more than bfloat16 counts exactly."""
    params, stats = batch_norm_init(1, dtype)
    x = np.random.default_rng(0).normal(1.5, 1, (257, 16, 17, 1))
    given = jnp.asarray(x, dtype), jnp.ones(257, bool)
    y, new = batch_norm(params, stats, given[0], mask=given[1], train=True)
    assert y.dtype == dtype
    wanted = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    np.testing.assert_allclose(np.asarray(y, float), wanted, atol=0.03)
    np.testing.assert_allclose(np.asarray(new["mean"], float), 0.1 * x.mean(), rtol=0.01)
    np.testing.assert_allclose(np.asarray(new["var"], float), 0.9 + 0.1 * x.var(), rtol=0.01)


# ------------------------------------------------------------------------------ all models


def test_every_built_in_model_is_tested():
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_masked_rows_change_nothing(name):
    with jax.enable_x64(True):
        model, spec, params, stats = small(name, jnp.float64)
        x = batch(spec, 4, dtype=np.float64)
        mask = np.array([True, True, True, False])
        out, new = jax.device_get(apply(model, params, stats, x, mask))
        junk = replaced(x, 3, 1e3 if spec.vocabulary is None else 0)
        other, other_new = jax.device_get(apply(model, params, stats, junk, mask))
        only, only_new = apply(model, params, stats, x[:3])
        chex.assert_trees_all_equal((out[:3], new), (other[:3], other_new))
        chex.assert_trees_all_close((out[:3], new), (only, only_new), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_stacked_parameters_under_vmap_equal_a_loop(name):
    with jax.enable_x64(True):
        model, spec, params, stats = small(name, jnp.float64)
        clients = [(params, stats), jax.tree.map(lambda leaf: 0.9 * leaf, (params, stats))]
        x = batch(spec, 4, dtype=np.float64)
        alone = [apply(model, *client, x) for client in clients]

        def stacked(*trees):
            return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

        together = jax.vmap(lambda *client: apply(model, *client, x))(*stacked(*clients))
        chex.assert_trees_all_close(together, stacked(*alone), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_everything_is_in_the_parameters_dtype(name, dtype):
    with jax.enable_x64(True):
        model, spec, params, stats = small(name, dtype)
        x = jax.eval_shape(lambda: batch(spec, 2, dtype=dtype))
        results = jax.eval_shape(lambda *a: apply(model, *a), params, stats, x)
        for leaf in jax.tree.leaves((params, stats, results)):
            assert leaf.dtype == dtype


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_leaves_the_statistics(name):
    model, spec, params, stats = small(name)
    out, same = apply(model, params, stats, batch(spec, 2), train=False)
    assert out.shape == (2, spec.num_classes)
    chex.assert_trees_all_equal(same, stats)


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (lenet(Spec((28, 28, 1), 10)), 61_706),
        (MODELS["niid_cnn"](Spec((28, 28, 1), 10)), 44_426),
        (MODELS["niid_cnn"](Spec((32, 32, 3), 10)), 62_006),
        (mlp(Spec((28, 28, 1), 10)), 784 * 200 + 200 + 200 * 10 + 10),
        (MODELS["logistic_regression"](Spec((60,), 10)), 610),
        (bncnn(Spec((32, 32, 3), 10)), 1_187_274),
        (mlp(Spec((28, 28, 1), 10), hidden=(200, 200)), 199_210),
        (MODELS["alexnet"](Spec((32, 32, 3), 10)), 1_756_426),
        (MODELS["fedavg_cnn"](Spec((28, 28, 1), 10)), 1_663_370),
        (MODELS["pfllib_cnn"](Spec((28, 28, 1), 10)), 582_026),
        (MODELS["pfllib_cnn"](Spec((32, 32, 3), 10)), 878_538),
        (MODELS["pfl_cnn"](Spec((32, 32, 3), 10)), 1_626_442),
        (MODELS["pfl_cnn"](Spec((28, 28, 1), 62)), 1_206_590),
        (MODELS["resnet18"](Spec((224, 224, 3), 1000)), 11_689_512),
        (MODELS["resnet18"](Spec((32, 32, 3), 10), stem="cifar"), 11_173_962),
        (MODELS["resnet18"](Spec((32, 32, 3), 10), stem="cifar", norm="group"), 11_173_962),
        (MODELS["vgg11"](Spec((32, 32, 3), 10)), 9_225_610),
        (MODELS["vgg11"](Spec((32, 32, 3), 10), norm="batch"), 9_231_114),
        (bncnn(Spec((8, 8, 1), 3), blocks=((4,),)), 36 + 8 + 64 * 3 + 3),
    ],
    ids=[
        "lenet",
        "niid_cnn of grey",
        "niid_cnn of colour",
        "mlp",
        "logistic_regression",
        "bncnn",
        "2nn",
        "alexnet",
        "fedavg_cnn",
        "pfllib_cnn of grey",
        "pfllib_cnn of colour",
        "pfl_cnn",
        "pfl_cnn for emnist",
        "resnet18 for imagenet",
        "resnet18 for cifar",
        "resnet18 with groups",
        "vgg11",
        "vgg11 with batch normalisation",
        "bncnn of one block",
    ],
)
def test_number_of_parameters(model, count):
    params, _ = jax.eval_shape(model.init, KEY)
    assert size(params) == count


def test_names_and_shapes():
    params, stats = jax.eval_shape(bncnn(Spec((8, 8, 1), 3), blocks=((4,),)).init, KEY)
    assert jax.tree.map(lambda leaf: leaf.shape, params) == {
        "conv1": {"kernel": (3, 3, 1, 4)},
        "bn1": {"scale": (4,), "bias": (4,)},
        "fc1": {"kernel": (64, 3), "bias": (3,)},
    }
    assert jax.tree.map(lambda leaf: leaf.shape, stats) == {"bn1": {"mean": (4,), "var": (4,)}}


def test_parameters_start_uniform_in_the_inverse_root_of_the_fan_in():
    params, _ = small("lenet")[0].init(KEY)
    for name, fan_in in [("conv1", 25), ("conv2", 150), ("fc1", 16), ("fc2", 120), ("fc3", 84)]:
        bound = fan_in**-0.5
        for leaf in params[name].values():
            assert np.max(np.abs(leaf)) <= bound
        kernel = np.asarray(params[name]["kernel"])
        assert np.std(kernel) == pytest.approx(bound / 3**0.5, rel=0.15)
        assert np.max(np.abs(kernel)) > 0.95 * bound


# --------------------------------------------------------- whole networks against plain loops


def correlate(x, w):
    """VALID cross-correlation by loops."""
    kh, kw, _, outputs = w.shape
    out = np.zeros((x.shape[0], x.shape[1] - kh + 1, x.shape[2] - kw + 1, outputs))
    for i, j in np.ndindex(*out.shape[1:3]):
        out[:, i, j] = np.tensordot(x[:, i : i + kh, j : j + kw], w, 3)
    return out


def largest(x):
    rows, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(rows, height // 2, 2, width // 2, 2, channels).max((2, 4))


def layer(params, x):
    return x @ params["kernel"] + params["bias"]


@pytest.mark.parametrize(("name", "padding"), [("lenet", 2), ("niid_cnn", 0)])
def test_lenet_is_its_definition(name, padding):
    with jax.enable_x64(True):
        model, spec, params, stats = small(name, jnp.float64)
        assert model.name == name
        x = batch(spec, 4, dtype=np.float64)
        out, _ = apply(model, params, stats, x)
        p = jax.tree.map(np.asarray, params)
        h = np.pad(np.asarray(x), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        for name in ("conv1", "conv2"):
            h = largest(np.maximum(correlate(h, p[name]["kernel"]) + p[name]["bias"], 0))
        h = h.reshape(4, -1)
        for name in ("fc1", "fc2"):
            h = np.maximum(layer(p[name], h), 0)
        np.testing.assert_allclose(out, layer(p["fc3"], h), rtol=1e-10, atol=1e-12)


def test_bncnn_is_its_definition():
    with jax.enable_x64(True):
        model, spec, params, stats = small("bncnn", jnp.float64)
        x = batch(spec, 4, dtype=np.float64)
        out, _ = apply(model, params, stats, x)
        p = jax.tree.map(np.asarray, params)
        h = np.asarray(x)
        for i in (1, 2):
            h = correlate(np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0))), p[f"conv{i}"]["kernel"])
            h = (h - h.mean((0, 1, 2))) / np.sqrt(h.var((0, 1, 2)) + 1e-5)
            h = h * p[f"bn{i}"]["scale"] + p[f"bn{i}"]["bias"]
            h = np.maximum(h, 0)
            h = h if i == 1 else largest(h)
        h = np.maximum(layer(p["fc1"], h.reshape(4, -1)), 0)
        np.testing.assert_allclose(out, layer(p["fc2"], h), rtol=1e-10, atol=1e-12)


# -------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: lenet(Spec((8, 8, 1), 10)), "smallest are 12x12"),
        (lambda: lenet(Spec((64,), 10)), "takes images"),
        (lambda: lenet(Spec((28, 28, 1), 10), padding=-1), "padding: -1"),
        (lambda: MODELS["niid_cnn"](Spec((15, 28, 1), 10)), "smallest are 16x16"),
        (lambda: bncnn(Spec((4, 4, 1), 10)), "smallest are 8x8"),
        (lambda: bncnn(Spec((64,), 10)), "takes images"),
        (lambda: bncnn(Spec((8, 8, 1), 10), blocks=((0,),)), "blocks: 0"),
        (lambda: mlp(Spec((64,), 10), hidden=(0,)), "hidden: 0"),
        (lambda: from_nnx(lambda rngs: 3), "no flax.nnx module"),
        (lambda: from_nnx(NnxWithoutMask), "must take a keyword `mask`"),
        (lambda: from_linen(3, Spec((6,), 3)), "no flax.linen module"),
        (lambda: from_linen(LinenNet(masked=False), Spec((6,), 3)), None),
        (lambda: from_linen(LinenWithoutMask(), Spec((6,), 3)), "must take a keyword `mask`"),
        (lambda: from_linen(LinenWithoutTrain(), Spec((6,), 3)), "must take a keyword `train`"),
    ],
)
def test_refusals_are_one_line_that_says_what_is_allowed(build, message):
    if message is None:
        assert build().name == "LinenNet"
        return
    with pytest.raises(InputError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


# --------------------------------------------------------------------------------- adapters


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)])

    def __call__(self, x, *, mask):
        x = self.dropout(jax.nn.relu(self.norm(self.first(x), mask=mask)))
        for linear in self.rest:
            x = linear(x)
        return x


class NnxWithoutMask(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(6, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


class NnxPlain(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)


class LinenNet(linen.Module):
    masked: bool = True

    @linen.compact
    def __call__(self, x, *, train, mask):
        x = linen.Dense(8)(x)
        if self.masked:
            x = linen.BatchNorm(momentum=0.9, use_running_average=not train)(x, mask=mask)
        x = linen.Dropout(0.5, deterministic=not train)(jax.nn.relu(x))
        return linen.Dense(3)(x)


class LinenWithoutMask(linen.Module):
    @linen.compact
    def __call__(self, x, *, train):
        return linen.BatchNorm(use_running_average=not train)(x)


class LinenWithoutTrain(linen.Module):
    @linen.compact
    def __call__(self, x, *, mask):
        return linen.BatchNorm(use_running_average=False)(x, mask=mask)


ADAPTED = {
    "nnx": lambda: from_nnx(NnxNet),
    "linen": lambda: from_linen(LinenNet(), Spec((6,), 3)),
}


@pytest.mark.parametrize("library", ADAPTED)
def test_adapted_model_trains_and_keeps_statistics(library):
    model = ADAPTED[library]()
    params, stats = model.init(KEY)
    x = batch(Spec((6,), 3), 8)
    labels = jnp.arange(8) % 3

    @jax.jit
    def step(params, stats, key):
        def loss(params):
            out, new = model.apply(params, stats, x, mask=jnp.ones(8, bool), train=True, key=key)
            return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean(), new

        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.3 * g, params, gradient), new, value

    before = stats
    values = []
    for i in range(30):
        params, stats, value = step(params, stats, jax.random.key(i))
        values.append(float(value))
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, stats)
    assert all(jax.tree.leaves(moved))
    assert jax.tree.structure(before) == jax.tree.structure(stats)


class NnxDouble(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 3, param_dtype=float, rngs=rngs)
        self.norm = nnx.BatchNorm(3, param_dtype=float, rngs=rngs)

    def __call__(self, x, *, mask):
        return self.norm(self.linear(x), mask=mask)


class LinenDouble(linen.Module):
    @linen.compact
    def __call__(self, x, *, train, mask):
        x = linen.Dense(3, param_dtype=float)(x)
        return linen.BatchNorm(param_dtype=float, use_running_average=not train)(x, mask=mask)


@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types")  # within nnx
@pytest.mark.parametrize("library", ADAPTED)
def test_adapted_model_keeps_its_types_in_float64(library, x64):
    """Flax's statistics are float32 beside parameters in float64."""
    nets = {"nnx": lambda: from_nnx(NnxDouble)}
    nets["linen"] = lambda: from_linen(LinenDouble(), Spec((6,), 3), dtype=float)
    rng = np.random.default_rng(0)
    examples = fx.Examples(
        rng.normal(size=(20, 6)), rng.integers(0, 3, 20), np.array(0.0), np.array(1.0)
    )
    data = from_owners(examples, np.arange(20) % 2, 2)
    with jax.numpy_dtype_promotion("standard"):  # Flax needs it
        built = fx.simulation(fx.fedavg(), nets[library](), data, batch_size=8)
        before = jax.tree.map(lambda x: (x.shape, x.dtype), built.init(KEY))
        state = fx.run(built, rounds=2).state
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == before


@pytest.mark.parametrize("library", ADAPTED)
def test_adapted_model_keeps_the_contract(library):
    model = ADAPTED[library]()
    params, stats = model.init(KEY)
    x = batch(Spec((6,), 3), 4)
    mask = jnp.array([True, True, True, False])

    # Masked rows change nothing, and a batch of nothing but masked rows leaves the statistics.
    out, new = apply(model, params, stats, x, mask)
    other, other_new = apply(model, params, stats, replaced(x, 3, 100.0), mask)
    chex.assert_trees_all_equal((out[:3], new), (other[:3], other_new))
    out, kept = apply(model, params, stats, x, jnp.zeros(4, bool))
    assert np.all(np.isfinite(out))
    chex.assert_trees_all_equal(kept, stats)

    # Dropout follows the key while training, and rests in evaluation.
    def run(seed, train):
        key = jax.random.key(seed)
        jitted = jax.jit(model.apply, static_argnames="train")
        return jitted(params, stats, x, mask=mask, train=train, key=key)[0]

    chex.assert_trees_all_equal(run(1, True), run(1, True))
    assert np.any(run(1, True) != run(2, True))
    chex.assert_trees_all_equal(run(1, False), run(2, False))
    chex.assert_trees_all_equal(apply(model, params, stats, x, train=False)[1], stats)

    # Pure dicts stack on a client axis.
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (params, stats))
    out, _ = jax.vmap(lambda p, s: apply(model, p, s, x, mask))(*stacked)
    assert out.shape == (2, 4, 3)


def test_a_built_module_keeps_its_parameters():
    module = NnxPlain(nnx.Rngs(7))
    model = from_nnx(module, name="linear")
    params, stats = model.init(KEY)
    assert model.name == "linear"
    assert stats == {}
    np.testing.assert_array_equal(params["linear"]["kernel"], module.linear.kernel[...])
    x = batch(Spec((6,), 3), 2)
    np.testing.assert_array_equal(apply(model, params, stats, x)[0], module(x))


class LinenTokens(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.Embed(6, 2)(x))


class NnxTokens(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(6, 2, rngs=rngs)
        self.out = nnx.Linear(2, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.embed(x))


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_modules_of_flax_take_tokens(kind):
    spec = Spec((4,), 3, vocabulary=6, target_shape=(4,))
    model = from_linen(LinenTokens(), spec) if kind == "linen" else from_nnx(NnxTokens)
    params, stats = model.init(KEY)
    tokens = batch(spec, 2)
    out, _ = apply(model, params, stats, tokens)
    assert out.shape == (2, 4, 3)
    others = replaced(tokens, (slice(None), 1), (tokens[:, 1] + 1) % 6)
    changed, _ = apply(model, params, stats, others)
    np.testing.assert_array_equal(changed[:, [0, 2, 3]], out[:, [0, 2, 3]])
    assert not np.allclose(changed[:, 1], out[:, 1])
