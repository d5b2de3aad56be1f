"""Every registered attack: against NumPy, and what all have in common."""

import importlib
from functools import cache
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_ecgr import attacks
from fedjax_ecgr.attacks import ATTACKS, Attacking
from fedjax_ecgr.attacks.lie import z_max
from fedjax_ecgr.attacks.min_max import DIRECTIONS
from fedjax_ecgr.check import InputError
from tests.aggregators.stacks import CLIENTS, SIZE, as_tree, draw, flatten
from tests.plain.attacks import lie as plain_lie
from tests.plain.attacks import min_max as plain_min_max

COLLUDING = [name for name in ATTACKS if ATTACKS[name]().together is not None]
ALONE = [name for name in ATTACKS if ATTACKS[name]().alone is not None]
NUMBERS = {"scale": 3.0, "std": 0.7, "factor": 4.0, "z": -1.3}
# who is there and honest, who is there and malicious, who is not there
ROLES = st.lists(st.sampled_from("hhma"), min_size=CLIENTS, max_size=CLIENTS)
colluding = pytest.mark.parametrize("name", COLLUDING)


def plain(name):
    return importlib.import_module(f"tests.plain.attacks.{name}")


def attacking(malicious, present, numbers, dtype=float):
    return Attacking(
        jax.random.key(3),
        jnp.full(len(malicious), 1 / len(malicious)),
        jnp.asarray(malicious),
        jnp.asarray(present),
        (),  # no attack here goes by the global parameters
        {key: jnp.asarray(x, dtype) for key, x in numbers.items()},
    )


@cache
def compiled(name, **options):
    return jax.jit(ATTACKS[name](**options).together)


def rows(tree):
    return np.concatenate([np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(tree)], 1)


def collude(function, flat, roles, numbers, dtype=float):
    malicious, present = np.array(roles) == "m", np.array(roles) != "a"
    given = attacking(malicious, present, numbers, dtype)
    return rows(function(as_tree(jnp.asarray(flat, dtype)), given))


def defaults(name):
    return ATTACKS[name]().hyperparameters


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_an_oracle(name):
    attack, oracle = ATTACKS[name](), plain(name)
    places = [place for place in ("labels", "alone", "together") if getattr(attack, place)]
    assert places
    assert all(hasattr(oracle, place) for place in places)
    assert attack.name == name


def check_rows(made, updates, roles, expected):
    """Only malicious rows change, all to what is expected, if there is an honest client."""
    malicious = np.array(roles) == "m"
    np.testing.assert_array_equal(made[~malicious], updates[~malicious])
    if expected is None:
        np.testing.assert_array_equal(made, updates)
    else:
        np.testing.assert_allclose(
            made[malicious], np.tile(expected, (malicious.sum(), 1)), rtol=0, atol=1e-9
        )


def expect(function, updates, roles, numbers):
    honest = updates[np.array(roles) == "h"]
    return function(honest, roles.count("m"), numbers) if len(honest) else None


@colluding
@pytest.mark.parametrize("given_numbers", [False, True])
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), roles=ROLES)
def test_is_the_paper(name, given_numbers, seed, roles):
    """What malicious clients trained and rows of who is absent do not matter."""
    options = {"z": NUMBERS["z"]} if name == "lie" and given_numbers else {}
    numbers = dict(ATTACKS[name](**options).hyperparameters)
    if given_numbers:
        numbers = {key: NUMBERS[key] for key in numbers}
    updates = draw(seed)
    updates[np.array(roles) != "h"] *= 1e6
    with jax.enable_x64(True):
        made = collude(compiled(name, **options), updates, roles, numbers)
    check_rows(made, updates, roles, expect(plain(name).together, updates, roles, numbers))


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), roles=ROLES)
def test_min_max_is_the_papers_search(direction, seed, roles):
    updates = draw(seed)
    with jax.enable_x64(True):
        made = collude(compiled("min_max", direction=direction), updates, roles, {})

    def oracle(honest, num_malicious, numbers):
        return plain_min_max.together(honest, num_malicious, numbers, direction)

    check_rows(made, updates, roles, expect(oracle, updates, roles, {}))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_min_max_goes_as_far_as_it_may(direction, x64):
    updates, roles = draw(1), list("hhhhhhhhmmm")
    sent = collude(compiled("min_max", direction=direction), updates, roles, {})[-1]
    honest = updates[:8]
    apart = max(np.linalg.norm(a - b) for a in honest for b in honest)
    furthest = np.linalg.norm(sent - honest, axis=1).max()
    np.testing.assert_allclose(furthest, apart, rtol=1e-12)
    assert (sent - honest.mean(axis=0)) @ (sent - honest.mean(axis=0)) > 0.01


@colluding
def test_nothing_to_spread_over(name, x64):
    """Equal honest updates, zeros among them: the attack stays a number."""
    for value in (0.0, 2.5):
        updates = np.full((CLIENTS, SIZE), value)
        sent = collude(compiled(name), updates, list("hhhhhhhhmmm"), defaults(name))[-1]
        expected = {"ipm": -0.5 * value, "fang": 0.0}.get(name, value)
        # Krum takes one of the equal ones, however little fang goes the other way
        atol = 1e-5 if name == "fang" else 1e-12
        np.testing.assert_allclose(sent, expected, rtol=0, atol=atol)


@colluding
@pytest.mark.parametrize("power", [-90, 90])
def test_float32_is_as_good_at_any_scale(name, power):
    power = 90 if name == "fang" else power  # the paper's least λ is a number
    updates, roles = draw(2).astype(np.float32), list("hhhhhhhhmma")
    made = collude(compiled(name), updates, roles, defaults(name), jnp.float32)
    scale = np.float32(2.0**power)
    scaled = collude(compiled(name), updates * scale, roles, defaults(name), jnp.float32)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled / scale, made, rtol=2e-5, atol=1e-6)


@colluding
@pytest.mark.parametrize("roles", ["mmmmmmmmmmm", "mmmaaaaaaaa", "aaaaaaaaaaa"])
def test_without_honest_clients_nothing_changes(name, roles):
    updates = draw(7).astype(np.float32)
    made = collude(compiled(name), updates, list(roles), defaults(name), jnp.float32)
    np.testing.assert_array_equal(made, updates)


@colluding
def test_honest_clients_that_diverged_are_left_out(name, x64):
    updates = draw(3)
    spoilt = updates.copy()
    spoilt[0, 2] = np.nan
    made = collude(compiled(name), updates, list("ahhhhhhhmmm"), defaults(name))
    other = collude(compiled(name), spoilt, list("hhhhhhhhmmm"), defaults(name))
    np.testing.assert_array_equal(made[1:], other[1:])
    assert np.isfinite(other[1:]).all()


@colluding
def test_vmap_over_cohorts_is_the_loop(name, x64):
    stack = np.stack([draw(seed) for seed in range(3)])
    malicious = np.arange(CLIENTS) >= np.array([8, 9, 10])[:, None]
    present = np.arange(CLIENTS) != np.array([0, 8, 3])[:, None]

    def one(updates, malicious, present):
        given = attacking(malicious, present, defaults(name))
        return ATTACKS[name]().together(updates, given)

    trees = as_tree(jnp.asarray(stack))
    both = jnp.asarray(malicious & present), jnp.asarray(present)
    made = jax.jit(jax.vmap(one))(trees, *both)
    for i in range(3):
        mine = rows(jax.tree.map(lambda x, i=i: x[i], made))
        roles = np.where(~present[i], "a", np.where(malicious[i], "m", "h")).tolist()
        alone = collude(compiled(name), stack[i], roles, defaults(name))
        np.testing.assert_allclose(mine, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "m", "share"), [(50, 24, 24 / 26), (50, 10, 24 / 40), (9, 4, 4 / 5)])
def test_z_max_of_known_cohorts(n, m, share, x64):
    """With n = 50 and m = 24 two supporters are wanted, the paper's example."""
    z = float(z_max(jnp.array(n - m), jnp.array(m), jnp.float64))
    np.testing.assert_allclose(jax.scipy.stats.norm.cdf(z), share, rtol=1e-12)


def test_z_max_is_finite_for_all_cohorts(x64):
    for n in range(2, 12):
        for m in range(1, n):
            z = float(z_max(jnp.array(n - m), jnp.array(m), jnp.float64))
            np.testing.assert_allclose(z, plain_lie.z_max(n, m), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALONE)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), weight=st.floats(0.01, 1), value=st.floats(0.1, 9))
def test_alone_is_the_paper(name, seed, weight, value):
    updates = draw(seed)[0]
    numbers = dict.fromkeys(defaults(name), value)
    with jax.enable_x64(True):
        given = attacking([True], [True], numbers)._replace(weights=jnp.asarray(weight))
        made = ATTACKS[name]().alone(as_tree(jnp.asarray(updates)), given)
        expected = plain(name).alone(updates, weight, numbers, given.key)
    np.testing.assert_allclose(flatten(made), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALONE)
def test_alone_under_jit_and_vmap_is_the_loop(name):
    stack, keys = draw(5)[:3].astype(np.float32), jax.random.split(jax.random.key(1), 3)
    weights = jnp.array([0.5, 0.3, 0.2])

    def one(update, key, weight):
        given = attacking([True], [True], defaults(name), jnp.float32)
        return ATTACKS[name]().alone(update, given._replace(key=key, weights=weight))

    made = jax.jit(jax.vmap(one))(as_tree(jnp.asarray(stack)), keys, weights)
    for i in range(3):
        mine = flatten(jax.tree.map(lambda x, i=i: x[i], made))
        alone = flatten(one(as_tree(jnp.asarray(stack[i])), keys[i], weights[i]))
        np.testing.assert_allclose(mine, alone, rtol=1e-6)


def test_noise_is_normal_and_of_each_client_and_round():
    given = attacking([True], [True], {"std": 3.0}, jnp.float32)
    update = {"a": jnp.ones((100, 100)), "b": jnp.ones(10_000)}
    instead = attacks.gaussian().alone(update, given)
    assert abs(float(instead["a"].std()) - 3) < 0.1
    assert abs(float(instead["a"].mean())) < 0.1
    assert abs(np.corrcoef(np.ravel(instead["a"]), instead["b"])[0, 1]) < 0.05
    on_top = attacks.gaussian(added=True).alone(update, given)
    chex.assert_trees_all_close(on_top, jax.tree.map(lambda y: 1 + y, instead), rtol=1e-6)
    other = attacks.gaussian().alone(update, given._replace(key=jax.random.key(4)))
    assert not np.allclose(other["b"], instead["b"])


def test_a_boosted_update_replaces_the_model_in_the_mean(x64):
    """The others stand still: the average is the attacker's update as trained."""
    update, weight = draw(6)[0], 0.13
    given = attacking([True], [True], {})._replace(weights=jnp.asarray(weight))
    sent = attacks.boosted().alone(as_tree(jnp.asarray(update)), given)
    np.testing.assert_allclose(weight * flatten(sent), update, rtol=1e-12)
    silent = attacks.boosted().alone(
        as_tree(jnp.asarray(update)), given._replace(weights=jnp.asarray(0.0))
    )
    np.testing.assert_array_equal(flatten(silent), update)
    by_ten = attacks.boosted(factor=10.0).alone(
        as_tree(jnp.asarray(update)), attacking([True], [True], {"factor": 10.0})
    )
    np.testing.assert_allclose(flatten(by_ten), 10 * update, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in ATTACKS if ATTACKS[name]().labels is not None])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_labels_are_turned_round(name, dtype):
    labels = np.arange(10, dtype=dtype)
    made = jax.jit(lambda y: ATTACKS[name]().labels(y, 10, {}))(labels)
    assert made.dtype == dtype
    assert made.tolist() == plain(name).labels(labels, 10).tolist() == list(range(9, -1, -1))


def test_boosting_may_leave_the_labels():
    assert attacks.boosted(flip_labels=False).labels is None


CASES = np.load(Path(__file__).parents[1] / "data" / "byzfl" / "cases.npz")


@pytest.mark.parametrize("case", sorted({key.split("/")[0] for key in CASES}))
def test_same_as_byzfl(case, x64):
    """All clients of the case are honest here; tests/data/byzfl/README.md says what differs."""
    honest = CASES[f"{case}/updates"]
    h = len(honest)
    updates = jnp.asarray(np.concatenate([honest, np.zeros((2, honest.shape[1]))]))

    def sent(attack, **numbers):
        given = attacking(np.arange(h + 2) >= h, np.ones(h + 2, bool), numbers)
        return jax.jit(attack.together)(updates, given)[-1]

    for ours, theirs in {
        "sign_flipping": sent(attacks.ipm(), scale=1.0),
        "inner_product_manipulation": sent(attacks.ipm(), scale=0.7),
        "little_is_enough": sent(attacks.lie(z=1.0), z=1.5 * np.sqrt(h / (h - 1))),
    }.items():
        np.testing.assert_allclose(theirs, CASES[f"{case}/{ours}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.sign_flip(scale=-1.0), "scale: -1"),
        (lambda: attacks.gaussian(std=-1.0), "std: -1"),
        (lambda: attacks.boosted(factor=0.0), "factor: 0"),
        (lambda: attacks.ipm(scale=np.nan), "scale: nan"),
        (lambda: attacks.lie(z=np.inf), "z: inf"),
        (lambda: attacks.min_max(direction="sdt"), "did you mean 'std'"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
