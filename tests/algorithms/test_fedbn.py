"""FedBN on a model with batch normalisation, against each client's own steps by hand."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fedjax_ecgr as fx
from fedjax_ecgr.data import from_owners

SIZES = [4, 6, 0]


def federation():
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(3), SIZES)
    inputs = rng.normal(size=(10, 4, 4, 1)) + owners[:, None, None, None]
    labels = rng.integers(0, 3, 10).astype(np.int32)
    examples = fx.Examples(inputs, labels, np.array(0.0), np.array(1.0))
    return from_owners(examples, owners, 3)


@cache
def model():
    built = fx.models.bncnn(fx.Spec((4, 4, 1), 3), blocks=((2,),), hidden=())

    def init(key):
        return jax.tree.map(lambda x: x.astype(float), built.init(key))

    return built._replace(init=init)


def test_normalisation_stays_with_the_client(x64):
    """Full batches without shuffle, no momentum: each client's round is one known step."""
    net, data = model(), federation()
    built = fx.simulation(
        fx.algorithms.ALGORITHMS["fedbn"](learning_rate=0.1, momentum=0.0), net, data,
        client_test=data, batch_size=6, shuffle=False, placement="scan",
    )  # fmt: skip
    key = jax.random.key(1)
    state = built.init(key)
    params, stats = (jax.device_get(x) for x in (state.params, state.batch_stats))
    owns = [(params["bn1"], stats) for _ in range(3)]

    @partial(jax.jit, static_argnames="train")
    def apply(params, stats, rows, train):
        return net.apply(
            params, stats, jnp.asarray(data.examples.inputs)[rows],
            mask=jnp.ones(len(rows), bool), train=train, key=key,
        )  # fmt: skip

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient_of(params, stats, rows):
        outputs, stats = apply(params, stats, rows, train=True)
        labels = jnp.asarray(data.examples.labels)[rows]
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean(), stats

    for _ in range(2):
        ends = {}
        for client in (0, 1):
            norm, own_stats = owns[client]
            rows = data.indices[client][: SIZES[client]]
            start = {**params, "bn1": norm}
            gradient, own_stats = gradient_of(start, own_stats, rows)
            ends[client] = jax.tree.map(lambda w, g: w - 0.1 * g, start, gradient)
            owns[client] = (ends[client]["bn1"], own_stats)
        mean = jax.tree.map(lambda a, b: 0.4 * a + 0.6 * b, ends[0], ends[1])
        params = {**mean, "bn1": params["bn1"]}
    state, _ = built.block(state, key, built.hyperparameters, 2, 2)
    for name in params:
        for a, b in zip(
            jax.tree.leaves(state.params[name]), jax.tree.leaves(params[name]), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-12, err_msg=name)
    for a, b in zip(jax.tree.leaves(state.batch_stats), jax.tree.leaves(stats), strict=True):
        np.testing.assert_array_equal(a, b)
    own = state.clients.algorithm
    for client in (0, 1, 2):
        norm, own_stats = owns[client]
        np.testing.assert_allclose(own["params"]["bn1"]["scale"][client], norm["scale"], atol=1e-12)
        np.testing.assert_allclose(
            own["batch_stats"]["bn1"]["mean"][client], own_stats["bn1"]["mean"], atol=1e-12
        )
    evaluation = built.evaluate(state, key)
    hits = []
    for client in (0, 1):
        rows = data.indices[client][: SIZES[client]]
        norm, own_stats = owns[client]
        outputs, _ = apply({**params, "bn1": norm}, own_stats, rows, train=False)
        hits.append(np.mean(np.asarray(outputs).argmax(axis=1) == data.examples.labels[rows]))
    np.testing.assert_allclose(evaluation.clients.mean, np.mean(hits))


def test_normalisation_is_not_sent():
    net, data = fx.models.bncnn(fx.Spec((4, 4, 1), 3), blocks=((2,),), hidden=()), federation()
    setting = [
        fx.simulation(fx.algorithms.ALGORITHMS[name](), net, data).setting
        for name in ("fedavg", "fedbn")
    ]
    # scale, bias, mean and variance of two channels
    assert setting[0].bytes_up - setting[1].bytes_up == 4 * 2 * 4


class Block(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x, *, mask):
        return self.norm(self.conv(x), mask=mask)


class Net(nnx.Module):
    """Normalisation inside a block, whose convolution is shared."""

    def __init__(self, rngs):
        self.block, self.out = Block(rngs), nnx.Linear(32, 3, rngs=rngs)

    def __call__(self, x, *, mask):
        return self.out(self.block(x, mask=mask).reshape(x.shape[0], -1))


def test_only_normalisation_of_a_block_stays():
    net, data = fx.models.from_nnx(Net), federation()
    params, stats = net.init(jax.random.key(0))
    first = fx.algorithms.First(params, stats, {}, 3)
    own = fx.algorithms.fedbn().init_client(first)["params"]
    assert own["block"]["conv"] == {"bias": None, "kernel": None}
    assert own["out"] == {"bias": None, "kernel": None}
    assert own["block"]["norm"].keys() == {"bias", "scale"}
    built = fx.simulation(fx.algorithms.fedbn(), net, data, client_test=data, batch_size=6)
    key = jax.random.key(1)
    state, _ = jax.jit(built.round)(built.init(key), key, built.hyperparameters)
    block, before = state.params["block"], built.init(key).params["block"]
    assert np.abs(block["conv"]["kernel"] - before["conv"]["kernel"]).max() > 1e-4
    np.testing.assert_array_equal(block["norm"]["scale"], before["norm"]["scale"])
