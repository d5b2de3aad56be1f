"""ECGR against the slow NumPy version that reads like the paper, and its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_ecgr as fx
from fedjax_ecgr.regulators import REGULATORS, RULES, STORAGES, reaggregation
from fedjax_ecgr.regulators.rows import COLUMNS, FEW, gram
from fedjax_ecgr.regulators.sketch import draw_flips, sketch
from tests.plain import ecgr as plain

REGULATORS_TO_TEST = {
    **{name: factory() for name, factory in REGULATORS.items()},
    **{f"ecgr, {storage}": fx.ecgr(storage=storage, sketch_size=5) for storage in STORAGES},
}
compiled = jax.jit(fx.reaggregate, static_argnames="rule")


def reaggregate(deltas, **numbers):
    return jax.device_get(compiled(deltas, **numbers))


def draw(tau, size, seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=(tau, size)) * scale


def as_tree(flat):
    """The same deltas as a pytree of two leaves, one of them a matrix."""
    return {"bias": jnp.asarray(flat[..., :1]), "kernel": jnp.asarray(matrices(flat[..., 1:]))}


def matrices(flat):
    return flat.reshape(*flat.shape[:-1], 2, -1)


def flatten(tree):
    return np.concatenate([np.ravel(tree["bias"]), np.ravel(tree["kernel"])])


def per_step(regulator, deltas, max_steps, active=None):
    return jax.device_get(traced_per_step(regulator, deltas, max_steps, active))


def traced_per_step(regulator, deltas, max_steps, active=None):
    """Feeds the deltas one by one, as the engine does."""

    def step(state, x):
        return regulator.update(x[0], state, x[1]), None

    def again(state, x):
        return regulator.replay.update(x[0], state, x[1]), None

    @jax.jit
    def all_of(deltas, active):
        params, steps = as_tree(deltas[0]), (as_tree(deltas), active)
        state, _ = jax.lax.scan(step, regulator.init(params, max_steps), steps)
        if regulator.replay is not None:
            state, _ = jax.lax.scan(again, regulator.replay.init(params, state), steps)
        total = jnp.where(active[:, None], deltas, 0).sum(axis=0)
        return regulator.finalize(state, as_tree(total))

    return all_of(deltas, jnp.ones(len(deltas), bool) if active is None else active)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=25, deadline=None)
@given(
    tau=st.sampled_from([1, 2, 3, 8]),
    seed=st.integers(0, 10**6),
    beta=st.floats(0, 1),
    select_ratio=st.floats(0.01, 1),
)
def test_reaggregate_is_the_paper(rule, tau, seed, beta, select_ratio):
    with jax.enable_x64(True):
        deltas = draw(tau, 5, seed)
        expected, convergent = plain.ecgr(deltas, beta, select_ratio, rule)
        update, info = reaggregate(as_tree(deltas), beta=beta, select_ratio=select_ratio, rule=rule)
        if rule == "nearest_mean" and tau == 2:
            return  # both steps are equally far from their mean: rounding decides
        np.testing.assert_allclose(flatten(update), expected, rtol=0, atol=1e-12)
        assert [int(i) for i in info.selection.order if i >= 0] == convergent
        assert sorted(convergent) == np.flatnonzero(info.selection.chosen).tolist()
        assert info.num_steps == tau


@pytest.mark.parametrize(("tau", "select_ratio", "k"), [(259, 0.5, 129), (196, 0.3, 58)])
def test_steps_are_counted_exactly_in_half_precision(tau, select_ratio, k):
    deltas = jnp.asarray(draw(tau, 3, seed=0), jnp.bfloat16)
    _, info = reaggregate(deltas, beta=0.2, select_ratio=select_ratio)
    assert int(info.selection.chosen.sum()) == k


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("max_steps", [6, 9])
def test_per_step_regulator_gives_the_same_as_reaggregate(rule, max_steps, x64):
    deltas = draw(6, 9, seed=1)
    regulator = fx.ecgr(beta=0.3, select_ratio=0.4, rule=rule)
    update, info = per_step(regulator, deltas, max_steps)
    expected, whole = reaggregate(as_tree(deltas), beta=0.3, select_ratio=0.4, rule=rule)
    np.testing.assert_allclose(flatten(update), flatten(expected), rtol=0, atol=1e-14)
    assert info.selection.chosen[:6].tolist() == whole.selection.chosen.tolist()
    assert not info.selection.chosen[6:].any()


@pytest.mark.parametrize("steps", [FEW - 2, FEW + 2])
def test_products_of_the_first_rows_alone(steps, x64):
    deltas = draw(9, 5, seed=8)
    products = gram(as_tree(deltas), jnp.float64, steps)
    expected = deltas[:steps] @ deltas[:steps].T
    np.testing.assert_allclose(products, expected, rtol=0, atol=1e-14)


FEWER_STEPS = (1, 38, 39, 75, 76, 150)


@pytest.fixture
def halves(monkeypatch):
    """Of 150 rows 75 or 38 do for whoever has no more steps."""
    monkeypatch.setattr(reaggregation, "SMALL", 64)


@pytest.mark.usefixtures("x64", "halves")
def test_steps_count_the_same_whatever_room_there_is():
    deltas = draw(150, 5, seed=8)
    masks = np.arange(150)[None] < np.array(FEWER_STEPS)[:, None]

    def of(mask):
        return fx.reaggregate(as_tree(deltas), beta=0.2, select_ratio=0.5, mask=mask)

    apart = [jax.device_get(each) for each in map(jax.jit(of), masks)]
    together = jax.jit(jax.vmap(of))
    for some in (slice(0, 2), slice(2, 4), slice(0, None)):  # the most: 38, 75 and 150
        batch = jax.device_get(together(masks[some]))
        for number, steps in enumerate(FEWER_STEPS[some]):
            of_batch = jax.tree.map(lambda x, number=number: x[number], batch)
            expected, convergent = plain.ecgr(deltas[:steps], 0.2, 0.5, "greedy")
            for update, info in (apart[FEWER_STEPS.index(steps)], of_batch):
                np.testing.assert_allclose(flatten(update), expected, rtol=0, atol=1e-12)
                assert info.selection.order.tolist() == convergent + [-1] * (150 - len(convergent))
                assert np.flatnonzero(info.selection.chosen).tolist() == sorted(convergent)
                assert info.num_steps == steps


@pytest.mark.usefixtures("x64", "halves")
@pytest.mark.parametrize("steps", [38, 76])
def test_replay_has_room_for_more_steps(steps):
    deltas = draw(150, 5, seed=8)
    regulator = fx.ecgr(beta=0.2, select_ratio=0.5, storage="replay", sketch_size=5)
    update, info = per_step(regulator, deltas, 150, jnp.arange(150) < steps)
    expected, convergent = plain.ecgr(deltas[:steps], 0.2, 0.5, "greedy")
    np.testing.assert_allclose(flatten(update), expected, rtol=0, atol=1e-12)
    assert np.flatnonzero(info.selection.chosen).tolist() == sorted(convergent)


@pytest.mark.parametrize("rule", RULES)
def test_masked_steps_never_count(rule, x64):
    deltas = draw(7, 5, seed=2)
    mask = np.array([True, False, True, True, False, True, False])
    dirty = np.where(mask[:, None], deltas, np.nan)
    expected, convergent = plain.ecgr(deltas[mask], 0.2, 0.5, rule)
    update, info = reaggregate(
        as_tree(dirty), beta=0.2, select_ratio=0.5, rule=rule, mask=jnp.asarray(mask)
    )
    np.testing.assert_allclose(flatten(update), expected, rtol=0, atol=1e-12)
    order = [int(i) for i in info.selection.order if i >= 0]
    assert order == np.flatnonzero(mask)[convergent].tolist()
    assert info.num_steps == 4

    regulator = fx.ecgr(0.2, 0.5, rule)
    update, _ = per_step(regulator, dirty, 7, active=jnp.asarray(mask))
    np.testing.assert_allclose(flatten(update), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("regulator", REGULATORS_TO_TEST, ids=str)
def test_no_step_gives_a_zero_update(regulator):
    update, _ = per_step(REGULATORS_TO_TEST[regulator], np.ones((2, 5)), 4, jnp.zeros(2, bool))
    assert flatten(update).tolist() == [0] * 5


# Storages: what is kept of the deltas in place of all of them.


def to_bfloat16(deltas):
    """Rounded by NumPy, to the nearest, ties to even."""
    return deltas.astype(jnp.bfloat16).astype(deltas.dtype)


@pytest.mark.parametrize("rule", RULES)
def test_bfloat16_is_the_method_on_rounded_deltas(rule, x64):
    deltas = draw(6, 9, seed=1) * np.logspace(-12, 9, 6)[:, None] ** 0.2
    update, info = per_step(fx.ecgr(0.3, 0.5, rule, storage="bfloat16"), deltas, max_steps=8)
    expected, convergent = plain.ecgr(to_bfloat16(deltas), 0.3, 0.5, rule)
    assert [int(i) for i in info.selection.order if i >= 0] == convergent
    np.testing.assert_allclose(flatten(update), expected, rtol=1e-12)
    exact, same = plain.ecgr(deltas, 0.3, 0.5, rule)
    assert same == convergent
    assert np.linalg.norm(expected - exact) < 2**-8 * np.linalg.norm(exact)


def test_bfloat16_accumulates_in_the_parameters_type():
    """A thousand equal steps: a running sum in bfloat16 would stop growing at 256.

    Ones and quarters add up without rounding in float32, whatever order a processor has.
    """
    deltas = np.ones((1000, 5), np.float32)
    update, info = per_step(fx.ecgr(0.25, 0.5, storage="bfloat16"), deltas, 1000)
    np.testing.assert_allclose(flatten(update), 1000, rtol=1e-6)
    assert info.selection.chosen.sum() == 500


@pytest.mark.parametrize("size", [9, 1000])
@pytest.mark.parametrize("rule", RULES)
def test_replay_with_sketches_of_all_parameters_is_exact(rule, size, x64):
    deltas = draw(7, 9, seed=2)
    mask = np.array([True, False, True, True, False, True, True])
    regulator = fx.ecgr(0.2, 0.5, rule, storage="replay", sketch_size=size)
    update, info = per_step(regulator, deltas, 8, active=jnp.asarray(mask))
    expected, convergent = plain.ecgr(deltas[mask], 0.2, 0.5, rule)
    np.testing.assert_allclose(flatten(update), expected, rtol=0, atol=1e-12)
    assert [int(i) for i in info.selection.order if i >= 0] == convergent
    assert info.num_steps == 5


@pytest.mark.parametrize("rule", RULES)
def test_replay_adds_up_exactly_what_was_selected(rule, x64):
    """Whatever a small sketch selects, blend and length are those of that selection."""
    regulator = fx.ecgr(0.3, 0.5, rule, storage="replay", sketch_size=4)
    cases = draw(20 * 6, 41, seed=7).reshape(20, 6, 41)
    all_at_once = jax.vmap(lambda deltas: traced_per_step(regulator, deltas, 6))
    updates, info = jax.device_get(all_at_once(jnp.asarray(cases)))
    for i, (deltas, chosen) in enumerate(zip(cases, info.selection.chosen, strict=True)):
        assert chosen.sum() == 3
        if rule == "smallest_norm":  # the lengths are kept exactly
            assert set(np.flatnonzero(chosen)) == set(plain.select(deltas, 3, rule))
        blend = np.where(chosen, 1, 0.3) @ deltas
        expected = blend * np.linalg.norm(deltas.sum(axis=0)) / np.linalg.norm(blend)
        update = flatten(jax.tree.map(lambda x, i=i: x[i], updates))
        np.testing.assert_allclose(update, expected, rtol=0, atol=1e-12)


def test_sketches_keep_inner_products_on_average(x64):
    """Over the signs: unbiased, with the variance of the pairs of entries that share a bucket."""
    rng, length, size, draws = np.random.default_rng(0), 40, 7, 4000
    x, y = rng.normal(size=(2, length))

    def product(key):
        flips = draw_flips(key, length)
        a, b = (sketch(flips, size, jnp.asarray(v)) for v in (x, y))
        return a @ b

    products = np.asarray(jax.jit(jax.vmap(product))(jax.random.split(jax.random.key(0), draws)))
    share = (np.subtract.outer(np.arange(length), np.arange(length)) % size == 0).astype(float)
    np.fill_diagonal(share, 0)
    variance = x**2 @ share @ y**2 + (x * y) @ share @ (x * y)
    assert abs(products.mean() - x @ y) < 4 * np.sqrt(variance / draws)
    np.testing.assert_allclose(products.var(), variance, rtol=0.1)


@pytest.mark.parametrize("max_steps", [FEW, FEW + 1])
@pytest.mark.parametrize("storage", STORAGES)
def test_rows_longer_than_a_matrix_product_takes(storage, max_steps, x64):
    deltas = draw(4, 2 * COLUMNS + 7, seed=6)
    regulator = fx.ecgr(0.2, 0.5, storage=storage, sketch_size=10**6)
    update, info = per_step(regulator, deltas, max_steps)
    kept = to_bfloat16(deltas) if storage == "bfloat16" else deltas
    expected, convergent = plain.ecgr(kept, 0.2, 0.5)
    np.testing.assert_allclose(flatten(update), expected, rtol=0, atol=1e-9)
    assert [int(i) for i in info.selection.order if i >= 0] == convergent


@pytest.mark.parametrize(
    ("beta", "select_ratio", "tau"), [(1.0, 0.5, 6), (0.2, 1.0, 6), (0, 0.1, 1)]
)
def test_identity_cases_give_the_plain_sum_to_the_bit(beta, select_ratio, tau):
    deltas = draw(tau, 5, seed=3).astype(np.float32)
    update, info = reaggregate(deltas, beta=beta, select_ratio=select_ratio)
    total = np.ones(tau, np.float32) @ deltas
    np.testing.assert_allclose(update, total, rtol=1e-6)
    assert info.rescale == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), beta=st.floats(0, 1), select_ratio=st.floats(0.01, 1))
def test_the_length_is_kept_and_the_direction_is_the_blend(seed, beta, select_ratio):
    deltas = draw(6, 4, seed).astype(np.float32)
    update, info = reaggregate(deltas, beta=beta, select_ratio=select_ratio)
    total = deltas.sum(axis=0)
    blend = (np.where(info.selection.chosen, 1, beta)[:, None] * deltas).sum(axis=0)
    length = np.linalg.norm
    np.testing.assert_allclose(length(update), length(total), rtol=1e-5)
    np.testing.assert_allclose(update * length(blend), blend * length(update), atol=1e-4)
    cosine = update @ total / length(update) / length(total)
    np.testing.assert_allclose(info.cosine, cosine, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), power=st.integers(-40, 40))
def test_scaling_and_permuting_the_deltas(rule, seed, power):
    deltas = draw(5, 6, seed).astype(np.float32)
    order = np.random.default_rng(seed).permutation(5)
    update, info = reaggregate(jnp.asarray(deltas), beta=0.2, select_ratio=0.5, rule=rule)
    scaled, _ = reaggregate(
        jnp.asarray(deltas * np.float32(2.0) ** power), beta=0.2, select_ratio=0.5, rule=rule
    )
    np.testing.assert_array_equal(np.asarray(scaled), np.asarray(update) * np.float32(2.0) ** power)
    permuted, moved = reaggregate(jnp.asarray(deltas[order]), beta=0.2, select_ratio=0.5, rule=rule)
    np.testing.assert_allclose(permuted, update, rtol=1e-3, atol=1e-5)
    assert moved.selection.chosen.tolist() == info.selection.chosen[order].tolist()


def test_the_lowest_index_wins_a_tie():
    deltas = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    for rule in ("greedy", "smallest_norm"):
        chosen = fx.select(jnp.asarray(deltas @ deltas.T), 1, rule)
        assert chosen.order.tolist() == [1, -1, -1, -1]


def test_ties_of_equal_deltas_go_to_the_lowest_index():
    rng = np.random.default_rng(0)
    for _ in range(20):
        base = rng.normal(size=(5, 300)).astype(np.float32)
        deltas = jnp.asarray(base[[0, 1, 1, 2, 3, 3, 4, 0]])
        _, info = reaggregate(deltas, beta=0.2, select_ratio=0.6)
        order = info.selection.order.tolist()
        for first, second in ((1, 2), (4, 5), (0, 7)):
            if second in order:
                assert first in order
                assert order.index(first) < order.index(second)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "deltas",
    [
        [[0, 0], [0, 0], [0, 0]],
        [[1, 2], [-1, -2], [1, 2], [-1, -2]],
        [[1, 2], [-1, -2], [3, 4]],
        [[1e-30, 0], [1, 1], [1e30, 1]],
        [[3e38, 1e38], [3e38, -1e38], [-1e38, 2e38]],
        [[1e-38, 2e-38], [-1e-38, 1e-38]],
    ],
)
def test_finite_deltas_never_give_nan_or_inf(deltas, dtype):
    with jax.enable_x64(dtype == np.float64):
        for rule in RULES:
            for beta in (0.0, 0.2, 1.0):
                update, info = reaggregate(
                    jnp.asarray(np.array(deltas, dtype)), beta=beta, select_ratio=0.5, rule=rule
                )
                assert np.isfinite(update).all()
                assert np.isfinite(info.rescale)
                assert np.isfinite(info.cosine)


@pytest.mark.parametrize("storage", ["bfloat16", "replay"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_storage_lets_squares_vanish_or_overflow(storage, scale):
    deltas = draw(5, 5, seed=4)
    regulator = fx.ecgr(0.2, 0.5, storage=storage, sketch_size=5)
    update, _ = per_step(regulator, (deltas * scale).astype(np.float32), 5)
    expected, _ = plain.ecgr(deltas, 0.2, 0.5)
    np.testing.assert_allclose(flatten(update).astype(float) / scale, expected, atol=0.02)
    far = np.array([[3e38, 1e38, 1e-38, 0, 1], [3e38, -1e38, 0, 0, 1]], np.float32)
    update, info = per_step(regulator, far, 2)
    assert np.isfinite(flatten(update)).all()
    assert np.isfinite(info.cosine)


@pytest.mark.parametrize("tau", [FEW, FEW + 1])
def test_extreme_deltas_beside_usual_ones_change_nothing_for_them(tau):
    """Clients at once, of which some have squares that overflow or vanish."""
    scales = np.array([1, 1e30, 1e-3, 1e-30, 1e-35])
    cases = [draw(tau, 5, seed=i) for i in range(len(scales))]
    regulator = fx.ecgr(0.2, 0.5)
    stacked = jnp.asarray(np.array(cases) * scales[:, None, None], jnp.float32)
    at_once = jax.vmap(lambda deltas: traced_per_step(regulator, deltas, tau + 1))
    updates, info = jax.device_get(at_once(stacked))
    for i, (deltas, scale) in enumerate(zip(cases, scales, strict=True)):
        expected, convergent = plain.ecgr(deltas, 0.2, 0.5)
        update = flatten(jax.tree.map(lambda x, i=i: x[i], updates)).astype(float) / scale
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)
        assert [int(step) for step in info.selection.order[i] if step >= 0] == convergent
        total = deltas.sum(axis=0)
        lengths = np.linalg.norm(total) * np.linalg.norm(expected)
        assert abs(info.cosine[i] - total @ expected / lengths) < 1e-4
        assert 0 <= info.spread[i] <= 1
    # what extreme deltas take is computed only where there are any: a branch, not a selection
    assert "cond[" in str(jax.make_jaxpr(at_once)(stacked))


def test_a_blend_that_vanishes_falls_back_to_the_plain_sum():
    deltas = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [3.0, 1.0]])
    update, info = reaggregate(deltas, beta=0.0, select_ratio=0.5)
    assert info.selection.chosen.tolist() == [True, True, False, False]
    assert update.tolist() == [3.0, 6.0]
    assert info.rescale == 1


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_neither_vanish_nor_overflow(scale):
    deltas = draw(5, 4, seed=4)
    expected, _ = plain.ecgr(deltas, 0.2, 0.5)
    update, _ = reaggregate(
        jnp.asarray((deltas * scale).astype(np.float32)), beta=0.2, select_ratio=0.5
    )
    np.testing.assert_allclose(np.asarray(update, np.float64) / scale, expected, rtol=1e-4)


def test_beta_and_ratio_are_traced():
    deltas = jnp.asarray(draw(6, 4, seed=5).astype(np.float32))
    reaggregate(deltas, beta=0.1, select_ratio=0.3)
    before = compiled._cache_size()
    reaggregate(deltas, beta=0.9, select_ratio=0.8)
    assert compiled._cache_size() == before

    betas = np.linspace(0, 1, 5, dtype=np.float32)
    swept = jax.vmap(lambda b: compiled(deltas, beta=b, select_ratio=0.5)[0])(betas)
    for b, update in zip(betas, np.asarray(swept), strict=True):
        expected, _ = reaggregate(deltas, beta=b, select_ratio=0.5)
        np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_select_takes_a_traced_number_and_caps_it():
    gram = jnp.asarray(np.diag([4.0, 3.0, 2.0, 1.0]))
    chosen = jax.jit(lambda k: fx.select(gram, k).chosen)
    assert chosen(2).tolist() == [False, False, True, True]
    assert chosen(9).tolist() == [True] * 4


@pytest.mark.parametrize("name", REGULATORS_TO_TEST)
def test_every_regulator_keeps_the_contract(name):
    regulator = REGULATORS_TO_TEST[name]
    assert regulator.name == name.split(",")[0]
    assert isinstance(regulator, fx.Regulator)

    @jax.jit
    def run(params):
        memory = regulator.remember(params)
        given = fx.regulators.Given(dict(regulator.hyperparameters), memory)
        state = regulator.init(params, 5, given)
        stepped = regulator.update(params, state, jnp.asarray(False))
        assert jax.tree.structure(stepped) == jax.tree.structure(state)
        if regulator.replay is not None:
            state = regulator.replay.init(params, stepped, given)
            stepped = regulator.replay.update(params, state, jnp.asarray(False))
            assert jax.tree.structure(stepped) == jax.tree.structure(state)
        update, info = regulator.finalize(stepped, params, given)
        learnt = regulator.learn(memory, info, given)
        assert jax.tree.map(jnp.shape, learnt) == jax.tree.map(jnp.shape, memory)
        assert jax.tree.map(jnp.shape, update) == jax.tree.map(jnp.shape, params)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(info))
        return update

    update = run({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(update))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beta": 1.5}, "beta: 1.5 is not allowed, it must be in [0, 1]"),
        ({"beta": -0.1}, "beta: -0.1 is not allowed, it must be in [0, 1]"),
        ({"beta": float("nan")}, "beta: nan is not allowed, it must be in [0, 1]"),
        ({"select_ratio": 0}, "select_ratio: 0 is not allowed, it must be in (0, 1]"),
        ({"select_ratio": 1.1}, "select_ratio: 1.1 is not allowed, it must be in (0, 1]"),
        ({"storage": "float16"}, "storage: unknown 'float16', did you mean 'bfloat16'?"),
        ({"sketch_size": 0}, "sketch_size: 0 is not allowed, it must be a whole number at least 1"),
        ({"rule": "greedi"}, "rule: unknown 'greedi', did you mean 'greedy'?"),
    ],
)
def test_bad_numbers_are_named(options, said):
    with pytest.raises(fx.InputError) as caught:
        fx.ecgr(**options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    if options.keys() & {"storage", "sketch_size"}:
        return
    with pytest.raises(fx.InputError):
        fx.reaggregate(jnp.ones((2, 2)), **{"beta": 0.2, "select_ratio": 0.5, **options})
