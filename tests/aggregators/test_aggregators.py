"""Every registered aggregator: against NumPy, and what all have in common."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_ecgr.aggregators import AGGREGATORS, centred_clipping, geometric_median, multi_krum
from fedjax_ecgr.aggregators.base import mean
from fedjax_ecgr.check import InputError
from tests.aggregators.stacks import (
    CLIENTS,
    SIZE,
    as_tree,
    compiled,
    draw,
    flatten,
    received,
    run,
    start,
    weights_of,
)

TOLD = [name for name in AGGREGATORS if "num_malicious" in AGGREGATORS[name]().hyperparameters]
NEEDS = {"trimmed_mean": (2, 1), "krum": (2, 3), "multi_krum": (2, 3), "bulyan": (4, 3)}
# those whose result does not grow with the updates unless their numbers do
LENGTHS = {"geometric_median": "smoothing", "centred_clipping": "radius"}
every = pytest.mark.parametrize("name", AGGREGATORS)


def plain(name):
    return importlib.import_module(f"tests.plain.aggregators.{name}")


def numbers_of(name, f):
    """f, or a length that is felt, in place of the defaults."""
    numbers = dict(AGGREGATORS[name]().hyperparameters)
    length = {LENGTHS[name]: 0.5 * (f + 1)} if name in LENGTHS else {}
    return numbers | length | ({"num_malicious": f} if name in TOLD else {})


@every
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    present=st.lists(st.booleans(), min_size=CLIENTS, max_size=CLIENTS),
    f=st.integers(0, 6),
)
def test_is_the_paper(name, seed, present, f):
    """All sizes of a cohort from one client to eleven, f beyond what they carry included."""
    present = np.array(present)
    updates, numbers = draw(seed), numbers_of(name, f)
    weights = weights_of(present, seed)
    with jax.enable_x64(True):
        dirty = np.where(present[:, None], updates, 1e3)
        update, _ = run(name, dirty, present, numbers=numbers, weights=weights)
    if not present.any():
        assert update.tolist() == [0] * SIZE
        return
    state = plain(name).init(SIZE) if hasattr(plain(name), "init") else ()
    expected, _ = plain(name).aggregate(updates[present], weights[present], numbers, state)
    np.testing.assert_allclose(update, expected, rtol=0, atol=1e-9)


@every
def test_state_over_rounds_is_the_papers(name, x64):
    oracle, state = plain(name), start(name, float)
    kept = oracle.init(SIZE) if hasattr(oracle, "init") else ()
    numbers = numbers_of(name, 2)
    for seed in range(3):
        present = np.arange(CLIENTS) != seed
        update, state = run(name, draw(seed), present, numbers=numbers, state=state)
        weights = weights_of(present)[present]
        expected, kept = oracle.aggregate(draw(seed)[present], weights, numbers, kept)
        np.testing.assert_allclose(update, expected, rtol=0, atol=1e-9)


@every
def test_vmap_over_numbers_and_updates_is_the_loop(name, x64):
    """A sweep is one program: f, radius and the like are traced."""
    state, sweep = start(name, float), [numbers_of(name, f) for f in range(3)]
    present = np.ones(CLIENTS, bool)
    stacks = np.stack([draw(seed) for seed in range(3)])
    numbers = {key: jnp.asarray([n[key] for n in sweep], float) for key in sweep[0]}
    given = received(present, weights_of(present), {}, float)

    def one(flat, numbers):
        all_given = given._replace(hyperparameters=numbers)
        return AGGREGATORS[name]().aggregate(as_tree(flat), state, all_given)[0]

    together = jax.jit(jax.vmap(one))(jnp.asarray(stacks), numbers)
    for i, flat in enumerate(stacks):
        alone, _ = run(name, flat, numbers=sweep[i])
        mine = flatten(jax.tree.map(lambda x, i=i: x[i], together))
        np.testing.assert_allclose(mine, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*TOLD, *LENGTHS])
def test_numbers_are_felt(name, x64):
    def differs(seed):
        few, many = (run(name, draw(seed), numbers=numbers_of(name, f))[0] for f in (0, 2))
        return not np.allclose(few, many, rtol=0, atol=1e-9)

    assert any(differs(seed) for seed in range(10))


@every
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), absent=st.integers(0, 3), f=st.integers(0, 2))
def test_order_of_clients_does_not_matter(name, seed, absent, f):
    order = np.random.default_rng(seed).permutation(CLIENTS)
    updates, present = draw(seed), np.arange(CLIENTS) >= absent
    weights, numbers = weights_of(present, seed), numbers_of(name, f)
    with jax.enable_x64(True):
        update, _ = run(name, updates, present, numbers=numbers, weights=weights)
        other, _ = run(
            name, updates[order], present[order], numbers=numbers, weights=weights[order]
        )
    np.testing.assert_allclose(update, other, rtol=0, atol=1e-12)


@every
@pytest.mark.parametrize("num_present", [1, 2, 3, CLIENTS])
def test_equal_updates_give_that_update(name, num_present, x64):
    present = np.arange(CLIENTS) < num_present
    update = draw(3)[0]
    numbers = numbers_of(name, 2) | ({"radius": 100.0} if name == "centred_clipping" else {})
    result, _ = run(name, np.tile(update, (CLIENTS, 1)), present, numbers=numbers)
    np.testing.assert_allclose(result, update, rtol=0, atol=1e-12)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_counts_as_not_sent(name, bad, x64):
    updates, present = draw(4), np.arange(CLIENTS) != 2
    weights = weights_of(np.ones(CLIENTS, bool))
    spoilt = updates.copy()
    spoilt[2, 5] = bad
    result, _ = run(name, spoilt, weights=weights)
    np.testing.assert_array_equal(result, run(name, updates, present, weights=weights)[0])


@every
@pytest.mark.parametrize("power", [-90, -30, 30, 90])
def test_float32_is_as_good_at_any_scale(name, power):
    """Squares of 2^90 and of 2^-90 are out of float32's range."""
    updates, scale, numbers = draw(5).astype(np.float32), 2.0**power, numbers_of(name, 2)
    result, _ = run(name, updates, numbers=numbers)
    if name in LENGTHS:
        numbers[LENGTHS[name]] *= scale
    scaled, _ = run(name, updates * np.float32(scale), numbers=numbers)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled / scale, result, rtol=2e-5, atol=1e-6)


@every
@pytest.mark.parametrize("size", [1e3, 1e15, 1e30, 3e38])
@pytest.mark.parametrize("together", [True, False])
def test_huge_outliers_within_f_have_no_say(name, size, together):
    """f = 2 of 11, the same lie of both or each one's own, in float32."""
    updates, honest = draw(6).astype(np.float32), np.arange(CLIENTS) >= 2
    updates[0] = size
    updates[1] = size if together else -size
    weights = np.full(CLIENTS, 1 / CLIENTS)
    result, _ = run(name, updates, numbers=numbers_of(name, 2), weights=weights)
    low, high = updates[honest].min(axis=0), updates[honest].max(axis=0)
    if name == "geometric_median":
        # within 2 (1 − α) / (1 − 2 α) honest radii of any point, α = 2/11 of the weight
        centre = updates[honest].mean(axis=0)
        radius = np.linalg.norm(updates[honest] - centre, axis=1).max()
        assert np.linalg.norm(result - centre) <= 18 / 7 * radius
    elif name == "centred_clipping":
        assert np.linalg.norm(result) <= 1.5 + 1e-6  # one step from zero, radius 1.5
    else:
        assert (result >= low - 1e-6).all()
        assert (result <= high + 1e-6).all()


@every
def test_more_outliers_than_f_still_give_numbers(name):
    updates = draw(7).astype(np.float32)
    updates[:8] *= 1e38 / np.abs(updates).max()
    updates[8:] = 0
    for numbers in (numbers_of(name, 0), numbers_of(name, 5)):
        assert np.isfinite(run(name, updates, numbers=numbers)[0]).all()


@every
def test_half_precision_is_computed_in_float32(name):
    updates = jnp.asarray(draw(8), jnp.bfloat16)
    numbers = numbers_of(name, 2)
    result, _ = run(name, updates, numbers=numbers, dtype=jnp.bfloat16)
    assert result.dtype == jnp.bfloat16
    weights = np.asarray(jnp.asarray(weights_of(np.ones(CLIENTS, bool)), jnp.bfloat16), float)
    precise, _ = run(name, np.asarray(updates, np.float32), numbers=numbers, weights=weights)
    np.testing.assert_allclose(result.astype(np.float32), precise, rtol=2**-8, atol=2**-9)


@every
def test_numbers_do_not_compile_again(name):
    run(name, draw(0))
    before = compiled(name)._cache_size()
    run(name, draw(1), np.arange(CLIENTS) > 3, numbers=numbers_of(name, 3))
    assert compiled(name)._cache_size() == before


@every
def test_lenet_of_100_clients_takes_few_copies_of_the_updates(name):
    shapes = [(61_000,), (706,)]
    updates = [jax.ShapeDtypeStruct((100, *shape), jnp.float32) for shape in shapes]
    aggregator = AGGREGATORS[name]()
    given = jax.eval_shape(
        lambda: received(np.ones(100), np.ones(100), aggregator.hyperparameters, jnp.float32)
    )._replace(present=jax.ShapeDtypeStruct((100,), bool))
    state = jax.eval_shape(aggregator.init, [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes])
    program = jax.jit(aggregator.aggregate).lower(updates, state, given).compile()
    assert program.memory_analysis().temp_size_in_bytes < 2.5 * 100 * 61_706 * 4


@pytest.mark.parametrize("name", TOLD)
def test_check_asks_for_enough_clients(name):
    per, more = NEEDS[name]
    for f in (0, 1, 3):
        AGGREGATORS[name](num_malicious=f).check(per * f + more)
        message = (
            f"cohort_size: {per * f + more - 1} is not allowed with {name} and num_malicious {f}, "
            f"it must be at least {per * f + more}"
        )
        with pytest.raises(InputError, match=message):
            AGGREGATORS[name](num_malicious=f).check(per * f + more - 1)
    sweep = AGGREGATORS[name](num_malicious=jnp.array([0.0, 2.0]))
    with pytest.raises(InputError, match="num_malicious 2"):
        sweep.check(2 * per + more - 1)


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("bad", [-1, 1.5, "many", np.nan])
def test_a_number_of_clients_is_whole(name, bad):
    with pytest.raises(InputError, match="num_malicious"):
        AGGREGATORS[name](num_malicious=bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multi_krum(num_selected=0), "num_selected: 0"),
        (lambda: multi_krum(num_selected=9).check(8), "num_selected: 9 is not .* at most 8"),
        (lambda: geometric_median(smoothing=0), "smoothing: 0"),
        (lambda: geometric_median(iterations=0), "iterations: 0"),
        (lambda: centred_clipping(radius=-1.0), r"radius: -1\.0"),
        (lambda: centred_clipping(iterations=1.5), r"iterations: 1\.5"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_multi_krum_of_one_is_krum_and_of_all_the_mean(x64):
    given = received(np.ones(CLIENTS, bool), np.ones(CLIENTS), {}, float)
    updates, rule = draw(9), jax.jit(multi_krum(num_selected=1).aggregate)

    def select(m):
        numbers = {"num_malicious": jnp.asarray(2.0), "num_selected": jnp.asarray(float(m))}
        return flatten(rule(as_tree(updates), (), given._replace(hyperparameters=numbers))[0])

    np.testing.assert_allclose(select(1), run("krum", updates, numbers={"num_malicious": 2})[0])
    np.testing.assert_allclose(select(CLIENTS), updates.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(select(50), updates.mean(axis=0), atol=1e-12)


def test_krum_takes_one_of_the_updates_as_it_is():
    updates = draw(10).astype(np.float32)
    assert (run("krum", updates)[0] == updates).all(axis=1).any()


def test_centred_clipping_keeps_its_centre_where_nobody_is_present(x64):
    _, state = run("centred_clipping", draw(0))
    update, after = run("centred_clipping", draw(1), np.zeros(CLIENTS, bool), state=state)
    assert update.tolist() == [0] * SIZE
    np.testing.assert_array_equal(flatten(after), flatten(state))


def test_centred_clipping_settles_short_of_honest_updates(x64):
    """By radius · a / (1 − a), a = 2/11 of the clients, the other way."""
    updates, state = np.tile(draw(12)[0], (CLIENTS, 1)), None
    updates[:2] *= -5
    for _ in range(200):
        result, state = run("centred_clipping", updates, numbers={"radius": 0.3}, state=state)
    norm = np.linalg.norm(updates[-1])
    np.testing.assert_allclose(result, updates[-1] * (1 - 0.3 * 2 / 9 / norm), rtol=1e-6)


def test_mean_weighs_clients(x64):
    weights = weights_of(np.arange(CLIENTS) > 1)
    updates = draw(11)
    result, _ = mean(as_tree(updates), (), received(weights > 0, weights, {}, float))
    np.testing.assert_allclose(flatten(result), weights @ updates, rtol=0, atol=1e-14)
