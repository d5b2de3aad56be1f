"""Transforms: each against NumPy, its known moments, and what it says it sends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_ecgr as fx
from fedjax_ecgr import metrics, transforms
from fedjax_ecgr.transforms import TRANSFORMS, Sending
from tests.engine.test_parts import LAYOUTS, federation, moved, simulation
from tests.plain.transforms.clip import clip as plain_clip
from tests.plain.transforms.qsgd import levels as plain_levels
from tests.plain.transforms.random_k import random_k as plain_random_k
from tests.plain.transforms.top_k import top_k as plain_top_k

SIZE = 12


def tree(vector):
    return {"a": vector[:2], "b": vector[2:].reshape(2, -1)}


def flat(update):
    return np.concatenate([np.ravel(update["a"]), np.ravel(update["b"])])


def sending(transform, key=0, weight=0.25, largest=0.5, participants=3.0, **numbers):
    given = {**transform.hyperparameters, **numbers}
    scalars = [jnp.asarray(x, float) for x in (weight, largest, participants)]
    numbers = {name: jnp.asarray(x, float) for name, x in given.items()}
    return Sending(jax.random.key(key), *scalars, numbers)


def apply(transform, vector, state=None, **given):
    update = tree(jnp.asarray(vector))
    state = transform.init(update) if state is None else state
    return transform.update(update, state, sending(transform, **given))


def drawn(seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(size=SIZE) * scale


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3), max_norm=st.floats(0.01, 100))
def test_clip_is_its_formula(seed, scale, max_norm):
    with jax.enable_x64(True):
        vector = drawn(seed, scale)
        update, _ = apply(transforms.clip(max_norm), vector)
        np.testing.assert_allclose(flat(update), plain_clip(vector, max_norm), rtol=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_top_k_with_error_feedback_loses_nothing(share, x64):
    transform, k = transforms.top_k(share), max(1, int(np.ceil(share * SIZE)))
    state, error, sent, asked = None, np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE)
    for seed in range(5):
        vector = drawn(seed)
        update, state = apply(transform, vector, state)
        wanted, error = plain_top_k(vector, error, k)
        np.testing.assert_allclose(flat(update), wanted, atol=1e-14)
        np.testing.assert_allclose(flat(state), error, atol=1e-14)
        assert np.count_nonzero(flat(update)) == k
        sent, asked = sent + flat(update), asked + vector
    np.testing.assert_allclose(sent + flat(state), asked, atol=1e-12)


def test_top_k_without_feedback_forgets(x64):
    update, state = apply(transforms.top_k(0.25, error_feedback=False), drawn())
    np.testing.assert_allclose(flat(update), plain_top_k(drawn(), 0, 3)[0], atol=1e-14)
    assert state == ()


def test_random_k_is_unbiased_and_draws_evenly(x64):
    transform, vector = transforms.random_k(0.25, error_feedback=False), drawn()

    def one(key):
        given = sending(transform)._replace(key=key)
        return transform.update(tree(jnp.asarray(vector)), (), given)[0]

    updates = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 4000))
    rows = np.concatenate([np.reshape(x, (4000, -1)) for x in jax.tree.leaves(updates)], axis=1)
    assert (np.count_nonzero(rows, axis=1) == 3).all()
    np.testing.assert_allclose(
        np.unique(np.round(rows[:, 0], 9)), sorted([0, round(4 * vector[0], 9)])
    )
    # the share of draws that hold an entry is 1/4 ± 4 standard deviations
    share = np.count_nonzero(rows, axis=0) / 4000
    assert (np.abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)).all()


def test_random_k_with_error_feedback_loses_nothing(x64):
    transform = transforms.random_k(0.3)
    state, error, sent, asked = None, np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE)
    for seed in range(6):
        update, state = apply(transform, drawn(seed), state, key=seed)
        draws = jax.random.bits(jax.random.key(seed), (SIZE,), np.uint32)
        wanted, error = plain_random_k(drawn(seed), error, draws, 4)
        np.testing.assert_allclose(flat(update), wanted, atol=1e-14)
        sent, asked = sent + flat(update), asked + drawn(seed)
    np.testing.assert_allclose(sent + flat(state), asked, atol=1e-12)


@pytest.mark.parametrize("levels", [1, 4, 200])
def test_qsgd_rounds_to_the_levels_beside_and_is_unbiased(levels, x64):
    transform, vector = transforms.qsgd(levels), drawn()

    def one(key):
        given = sending(transform)._replace(key=key)
        return transform.update(tree(jnp.asarray(vector)), (), given)[0]

    updates = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 4000))
    for layer, part in (("a", vector[:2]), ("b", vector[2:])):
        rows = np.asarray(updates[layer]).reshape(4000, -1)
        below, chance = plain_levels(part, levels)
        ups = rows * levels / np.linalg.norm(part) / np.sign(part) - below
        np.testing.assert_allclose(ups, np.round(ups), atol=1e-9)
        assert set(np.round(ups).ravel()) <= {0, 1}
        assert (np.abs(ups.mean(axis=0) - chance) < 4 * np.sqrt(chance / 4000) + 1e-9).all()


def test_the_mean_of_dp_updates_has_the_noise_it_should(x64):
    """Of three clients with weights 0.5, 0.3, 0.2: standard deviation z C max p in the mean."""
    transform = transforms.dp_fedavg(clip_norm=2.0, noise_multiplier=1.5)
    weights = np.array([0.5, 0.3, 0.2])
    update = tree(jnp.asarray(drawn(3) * 100))

    def one(key, weight):
        given = sending(transform, weight=1.0, largest=0.5)._replace(key=key, weight=weight)
        return transform.update(update, (), given)[0]

    def mean(key):
        keys = jax.random.split(key, 3)
        updates = jax.vmap(one)(keys, jnp.asarray(weights))
        return jax.tree.map(lambda u: jnp.tensordot(jnp.asarray(weights), u, axes=1), updates)

    means = jax.jit(jax.vmap(mean))(jax.random.split(jax.random.key(2), 3000))
    rows = np.concatenate([np.reshape(x, (3000, -1)) for x in jax.tree.leaves(means)], axis=1)
    clipped = plain_clip(drawn(3) * 100, 2.0)
    np.testing.assert_allclose(rows.std(axis=0), 1.5 * 2.0 * 0.5, rtol=0.06)
    assert (np.abs(rows.mean(axis=0) - clipped) < 4 * 1.5 / np.sqrt(3000)).all()
    exact = apply(transforms.dp_fedavg(2.0, 0.0), drawn(3) * 100)[0]
    np.testing.assert_allclose(flat(exact), clipped, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_qsgd_of_one_entry_is_that_entry_and_of_any_scale_finite(scale):
    """There is no code for a level beyond the last; and squares overflow or vanish in float32."""
    transform, one = transforms.qsgd(127), np.float32(scale)
    run = jax.jit(transform.update)
    lone, _ = run({"a": np.full(1, -one)}, (), sending(transform))
    np.testing.assert_allclose(lone["a"], -one, rtol=1e-6)
    vector = drawn().astype(np.float32) * one
    rounded, _ = run({"a": vector}, (), sending(transform))
    level = np.asarray(rounded["a"], np.float64) / np.linalg.norm(np.asarray(vector, np.float64))
    np.testing.assert_allclose(level * 127, np.round(level * 127), atol=1e-3)
    assert (np.abs(level * 127 - drawn() / np.linalg.norm(drawn()) * 127) < 1.001).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_round_with_dp_has_the_noise_it_should(layout, x64):
    """Nobody moves, so that all of the round is noise: of z C max p, whoever sends how much."""
    sizes, width = np.array([9, 4, 0, 13, 1, 6]), 1000
    plain = federation()
    wide = np.tile(np.asarray(plain.examples.inputs), (1, width // 2))
    data = plain._replace(examples=plain.examples._replace(inputs=wide))
    model = fx.models.logistic_regression(fx.Spec((width,), 3))

    def zero(key):
        return jax.tree.map(lambda p: jnp.zeros(p.shape, float), model.init(key))

    noise = transforms.dp_fedavg(clip_norm=2.0, noise_multiplier=1.5)
    method = fx.fedavg(transforms=[noise], learning_rate=1e-12)
    built = fx.simulation(method, model._replace(init=zero), data, cohort_size=6, **LAYOUTS[layout])
    change, _, _ = moved(built)
    wanted = 1.5 * 2.0 * sizes.max() / sizes.sum()
    assert change.size == 3003
    assert abs(change.std() / wanted - 1) < 4 / np.sqrt(2 * change.size)
    assert abs(change.mean()) < 4 * wanted / np.sqrt(change.size)
    assert abs((np.abs(change) < wanted).mean() - 0.6827) < 4 * np.sqrt(0.22 / change.size)


def test_noise_is_sent_in_every_entry_whatever_was_left_out_before():
    whole = simulation().setting.bytes_up
    sparse, noise = transforms.top_k(0.25), transforms.dp_fedavg()
    chains = ([sparse, noise], [noise, sparse])
    sent = [simulation(algorithm=fx.fedavg(transforms=c)).setting.bytes_up for c in chains]
    assert sent[0] == whole
    assert sent[1] < whole


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_leaves_zero_finite_and_its_numbers_are_traced(name):
    """Also of a client without weight; and another number is the same program."""
    transform = TRANSFORMS[name]()
    assert transform.name == name
    update = jax.tree.map(lambda x: x.astype(jnp.float32), tree(jnp.zeros(SIZE)))

    @jax.jit
    def one(update, key, weight, numbers):
        float32 = jnp.float32
        given = Sending(key, weight, float32(0.5), float32(0), numbers)
        return transform.update(update, transform.init(update), given)

    numbers = {k: jnp.float32(v) for k, v in transform.hyperparameters.items()}
    for weight in (0.0, 0.5):
        out, state = one(update, jax.random.key(0), jnp.float32(weight), numbers)
        for leaf, like in zip(jax.tree.leaves(out), jax.tree.leaves(update), strict=True):
            assert np.isfinite(leaf).all()
            assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("transform", "wanted"),
    [
        (transforms.top_k(0.25), 3 * 4 + 3 * 4),
        (transforms.random_k(0.25), 3 * 4),
        (transforms.qsgd(127), SIZE * 1 + 2 * 4),
        (transforms.qsgd(128), SIZE * 2 + 2 * 4),
    ],
    ids=["top_k", "random_k", "qsgd", "qsgd, two bytes"],
)
def test_bytes_are_of_what_is_sent(transform, wanted):
    update = jax.tree.map(lambda x: x.astype(jnp.float32), tree(jnp.zeros(SIZE)))
    assert metrics.message_bytes(jax.eval_shape(transform.wire, update)) == wanted


def test_an_optax_transformation_is_a_transform(x64):
    import optax

    transform = transforms.from_optax(optax.clip_by_global_norm(0.5), "optax")
    update, _ = apply(transform, drawn())
    np.testing.assert_allclose(flat(update), plain_clip(drawn(), 0.5), rtol=1e-12)


def test_an_optax_transformation_with_a_key_of_its_own_is_refused():
    import optax

    noise = transforms.from_optax(optax.add_noise(1.0, 0.0, 1), "noise")
    data = fx.datasets.synthetic(num_clients=3, max_size=20)
    model = fx.models.logistic_regression(data.spec)
    with pytest.raises(fx.InputError, match=r"transforms: noise, .* with a random key, is not"):
        fx.simulation(fx.fedavg(transforms=[noise]), model, fx.partition.natural(data.train))


def test_compressed_training_learns_and_sends_less():
    data = fx.datasets.digits()
    clients = fx.partition.iid(data.train, num_clients=5, seed=0)
    model = fx.models.logistic_regression(data.spec)

    def run(*chain):
        method = fx.fedavg(transforms=chain, learning_rate=0.05)
        return fx.simulate(
            method,
            model,
            clients,
            test=data.test,
            rounds=10,
            eval_every=10,
            placement="scan",
        )

    whole, sparse = run(), run(transforms.clip(1.0), transforms.top_k(0.1))
    sent = sparse.table["bytes_up"][0] / whole.table["bytes_up"][0]
    assert abs(sent - 0.2) < 0.01  # a tenth of the values, each with an index
    assert sparse.table["test_accuracy"][-1] > 0.85


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: transforms.clip(0), "max_norm: 0 is not allowed, it must be in (0, inf)"),
        (lambda: transforms.top_k(0), "share: 0 is not allowed, it must be in (0, 1]"),
        (lambda: transforms.random_k(1.5), "share: 1.5 is not allowed"),
        (lambda: transforms.qsgd(0), "levels: 0 is not allowed"),
        (lambda: transforms.qsgd(2**15), "levels: 32768 is not allowed"),
        (lambda: transforms.dp_fedavg(noise_multiplier=-1), "noise_multiplier: -1 is not allowed"),
    ],
)
def test_bad_numbers_are_named(make, said):
    with pytest.raises(fx.InputError) as caught:
        make()
    assert said in str(caught.value)
