"""Server-side algorithms on quadratics, where what they do is known in closed form.

Client i holds n_i copies of the point c_i and the loss ½‖w − c_i‖² of each, and takes one step of
size η on all of them: u_i = η (w − c_i).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_ecgr as fx
from fedjax_ecgr.algorithms import ALGORITHMS, Server, Upload
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.models.base import Model
from tests.plain.algorithms import adafedprox as plain_adafedprox

RATE = 0.5
SHARES = np.array([0.5, 0.25, 0.25])
CENTRES = np.array([[3.0, 0.0], [-1.0, 0.02], [0.0, -0.01]])
MEAN = SHARES @ CENTRES


def simulation(name, centres=CENTRES, sizes=(4, 2, 2), cohort_size=None, local_epochs=1, **options):
    centres, dtype = np.asarray(centres), jnp.result_type(float)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    nothing = np.zeros(len(owners), np.int32)
    examples = fx.Examples(centres[owners], nothing, mean=np.array(0.0), std=np.array(1.0))

    def apply(params, stats, inputs, *, mask, train, key):
        return params["w"][None] - inputs, stats

    def init(key):
        return {"w": jnp.zeros(centres.shape[1], dtype)}, {}

    return fx.simulation(
        ALGORITHMS[name](**{"learning_rate": RATE, "momentum": 0.0, **options}),
        Model("quadratic", init, apply),
        from_owners(examples, owners, len(sizes)),
        cohort_size=cohort_size,
        batch_size=max(sizes),
        local_epochs=local_epochs,
        loss=lambda outputs, labels: jnp.square(outputs).sum(axis=1) / 2,
        placement="scan",
    )


def run(built, rounds, numbers=None, seed=0):
    """The global parameters after some rounds, and the last state."""
    numbers = built.hyperparameters if numbers is None else numbers
    key = jax.random.key(seed)
    state, _ = built.block(built.init(key), key, numbers, rounds, rounds)
    return np.asarray(state.params["w"]), state


def path(name, rounds, **options):
    """The global parameters after each round, [rounds + 1, d], the first ones included."""
    built = simulation(name, **options)
    one = jax.jit(built.round)
    key = jax.random.key(0)
    state = built.init(key)
    found = [np.asarray(state.params["w"])]
    for _ in range(rounds):
        state, _ = one(state, key, built.hyperparameters)
        found.append(np.asarray(state.params["w"]))
    return np.array(found)


def test_fedavgm_is_a_heavy_ball(x64):
    w = path("fedavgm", 4, server_momentum=0.6, server_learning_rate=0.5)
    # heavy ball: the last step goes on, less what was lost, and the gradient is added
    for before, now, after in zip(w[:-2], w[1:-1], w[2:], strict=True):
        wanted = now + 0.6 * (now - before) - 0.5 * RATE * (now - MEAN)
        np.testing.assert_allclose(after, wanted, atol=1e-12)
    np.testing.assert_allclose(w[1], 0.5 * RATE * MEAN, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("fedadam", lambda v, square: 0.95 * v + 0.05 * square),
        ("fedyogi", lambda v, square: np.where(square > v, v + 0.05 * square, v - 0.05 * square)),
        ("fedadagrad", lambda v, square: v + square),
    ],
)
def test_adaptive_servers_step_by_their_moments_without_correction(name, second, x64):
    """The update's coordinates are one above τ and one below, so that Yogi's v goes both ways."""
    tau, rate, b1 = 0.01, 0.1, 0.8
    numbers = {"b1": b1, "tau": tau, "server_learning_rate": rate}
    w = path(name, 3, **numbers, **({} if name == "fedadagrad" else {"b2": 0.95}))
    m, v = np.zeros(2), np.full(2, tau**2)
    for before, after in itertools.pairwise(w):
        update = RATE * (before - MEAN)
        m, v = b1 * m + (1 - b1) * update, second(v, update**2)
        np.testing.assert_allclose(after, before - rate * m / (np.sqrt(v) + tau), atol=1e-12)
    assert abs(RATE * MEAN[0]) > tau > abs(RATE * MEAN[1]) > 0


def test_adam_without_memory_steps_as_far_in_every_coordinate(x64):
    w, _ = run(simulation("fedadam", b1=0.0, b2=0.0, tau=1e-9, server_learning_rate=0.1), 1)
    np.testing.assert_allclose(w, 0.1 * np.sign(MEAN), rtol=1e-6)


@pytest.mark.parametrize(("name", "number"), [("fedadam", "tau"), ("adafedprox", "mu")])
def test_numbers_that_a_first_state_depends_on_can_be_varied_in_the_program(name, number, x64):
    one, other = (simulation(name, local_epochs=3, **{number: x}) for x in (0.5, 0.25))
    numbers = {**one.hyperparameters}
    numbers["algorithm"] = {**numbers["algorithm"], number: 0.25}
    varied, wanted, fixed = run(one, 3, numbers)[0], run(other, 3)[0], run(one, 3)[0]
    np.testing.assert_allclose(varied, wanted, atol=1e-12)
    assert np.abs(varied - fixed).max() > 1e-3


def test_fedexp_goes_half_as_often_as_far_as_there_are_orthogonal_clients(x64):
    sizes, epsilon = (2,) * 6, 1e-3
    w, _ = run(simulation("fedexp", np.eye(6), sizes, epsilon=epsilon), 1)
    squared = RATE**2  # of each update; that of their mean is a sixth of it
    np.testing.assert_allclose(w, squared / (2 * (squared / 6 + epsilon)) * RATE / 6, rtol=1e-12)
    alike, _ = run(simulation("fedexp", np.ones((6, 6)), sizes), 1)
    np.testing.assert_allclose(alike, RATE, rtol=1e-12)  # never less far than FedAvg


def test_qfedavg_of_one_client_and_of_no_fairness(x64):
    # ‖u‖² / (η F) = 2η, whatever w is
    w, _ = run(simulation("qfedavg", CENTRES[:1], (4,), q=3.0), 1)
    np.testing.assert_allclose(w, RATE * CENTRES[0] / (1 + 2 * 3 * RATE), rtol=1e-9)
    even, plain = run(simulation("qfedavg", q=0.0), 3)[0], run(simulation("fedavg"), 3)[0]
    np.testing.assert_allclose(even, plain, rtol=1e-12)


@pytest.mark.parametrize("q", [0.5, 2.0])
def test_qfedavg_ends_where_fairness_and_size_are_in_balance(q, x64):
    """Clients at 0 and 1 with weights ¾ and ¼: (w / (1 − w))^(2q + 1) = ⅓."""
    w, _ = run(simulation("qfedavg", [[0.0], [1.0]], (6, 2), q=q), 200)
    ratio = (1 / 3) ** (1 / (2 * q + 1))
    np.testing.assert_allclose(w, ratio / (1 + ratio), rtol=1e-6)


def test_afl_ends_in_the_middle_however_unlike_sizes_are(x64):
    """Clients at −1 and 1 are served alike at 0, FedAvg ends at −½."""
    built = simulation("afl", [[-1.0], [1.0]], (6, 2), learning_rate=0.1)
    w, state = run(built, 600)
    np.testing.assert_allclose(w, 0, atol=1e-3)
    np.testing.assert_allclose(state.server.algorithm, 0.5, atol=1e-3)
    plain, _ = run(simulation("fedavg", [[-1.0], [1.0]], (6, 2)), 100)
    np.testing.assert_allclose(plain, -0.5, atol=1e-9)


def test_afl_of_a_part_of_the_clients(x64):
    """λ stays a mixture, rises for who was asked; w goes all the way with it unless its λ is 0."""
    centres = [[-1.0], [0.0], [4.0]]
    built = simulation("afl", centres, (3, 3, 2), 1, mixture_learning_rate=2.0)
    one, key = jax.jit(built.round), jax.random.key(1)
    state, stood = built.init(key), 0
    for _ in range(12):
        mixture, w = np.asarray(state.server.algorithm), np.asarray(state.params["w"])
        state, info = one(state, key, built.hyperparameters)
        after, asked = np.asarray(state.server.algorithm), int(info.cohort[0])
        np.testing.assert_allclose(after.sum(), 1, rtol=1e-12)
        assert (after >= 0).all()
        assert after[asked] >= mixture[asked]
        stood += mixture[asked] == 0
        step = RATE * (w - centres[asked]) if mixture[asked] > 0 else 0
        np.testing.assert_allclose(state.params["w"], w - step, atol=1e-12)
    assert 0 < stood < 12


def test_fedacg_is_nesterov_where_clients_take_one_step(x64):
    w = path("fedacg", 4, acceleration=0.6, mu=7.0, server_learning_rate=0.5)
    for before, now, after in zip(w[:-2], w[1:-1], w[2:], strict=True):
        ahead = now + 0.6 * (now - before)
        np.testing.assert_allclose(after, ahead - 0.5 * RATE * (ahead - MEAN), atol=1e-12)


def test_fedacg_ties_clients_to_where_they_start(x64):
    w = path("fedacg", 2, centres=CENTRES[:1], sizes=(4,), local_epochs=2, acceleration=0.6, mu=0.5)
    velocity = np.zeros(2)
    for before, after in itertools.pairwise(w):
        ahead = before - 0.6 * velocity
        end = ahead - RATE * (ahead - CENTRES[0])
        end = end - RATE * ((end - CENTRES[0]) + 0.5 * (end - ahead))
        velocity = 0.6 * velocity + ahead - end
        np.testing.assert_allclose(after, end, atol=1e-12)
        np.testing.assert_allclose(after, before - velocity, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    losses=st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0]), min_size=1, max_size=12),
    mu=st.floats(0, 1),
    patience=st.integers(1, 3),
)
def test_adafedprox_follows_the_loss(losses, mu, patience):
    numbers = {"mu": mu, "mu_step": 0.3, "patience": float(patience)}
    algorithm = fx.algorithms.adafedprox(**numbers)
    first = fx.algorithms.First({"w": jnp.zeros(1)}, {}, {}, 3)
    state, wanted = algorithm.init_server(first), plain_adafedprox.init_server(np.zeros(1), 3)
    traced = {name: jnp.asarray(x, jnp.float32) for name, x in numbers.items()}
    for loss in losses:
        upload = Upload({"w": jnp.ones(1)}, jnp.asarray(loss, jnp.float32))
        for present in (True, False):  # a round without anybody changes nothing
            given = Server(
                {}, state, jnp.arange(3), jnp.array([present]), jnp.ones(()), jnp.ones(()), traced
            )
            direction, state = algorithm.server(given, upload)
            assert direction is upload.update
        wanted = plain_adafedprox.after(wanted, loss, numbers)
        assert float(state.mu) == pytest.approx(wanted["mu"], abs=1e-5)
        assert (float(state.loss), int(state.falls)) == (wanted["loss"], wanted["falls"])


@pytest.mark.parametrize("name", ["afl", "adafedprox", "fedadam", "fedexp", "qfedavg"])
def test_a_round_without_anybody_is_harmless(name, x64):
    """Two of three clients have no examples: rounds in which one of them is alone."""
    built = simulation(name, sizes=(4, 0, 0), cohort_size=1)
    one, key = jax.jit(built.round), jax.random.key(0)
    state, alone = built.init(key), 0
    for _ in range(6):
        before = np.asarray(state.params["w"])
        state, info = one(state, key, built.hyperparameters)
        after = np.asarray(state.params["w"])
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
        if int(info.cohort[0]) > 0:
            alone += 1
            assert name == "fedadam" or (after == before).all()  # Adam goes on by its momentum
    assert 0 < alone < 6
    assert np.linalg.norm(after) > 0.05  # but it did train


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("fedavgm", {"server_momentum": 1.0}, "server_momentum: 1.0 is not allowed"),
        ("fedavgm", {"server_optimizer": lambda numbers: None}, "fedavgm: server_optimizer: not"),
        ("fedadam", {"server_optimizer": lambda numbers: None}, "fedadam: server_optimizer: not"),
        ("fedadam", {"tau": 0.0}, "tau: 0.0 is not allowed, it must be in (0, inf)"),
        ("fedadam", {"server_learning_rate": 0.0}, "server_learning_rate: 0.0 is not allowed"),
        ("fedyogi", {"b2": 1.0}, "b2: 1.0 is not allowed, it must be in [0, 1)"),
        ("fedadagrad", {"b1": -0.1}, "b1: -0.1 is not allowed"),
        ("fedexp", {"epsilon": 0.0}, "epsilon: 0.0 is not allowed"),
        ("qfedavg", {"q": -1.0}, "q: -1.0 is not allowed"),
        ("afl", {"mixture_learning_rate": -1.0}, "mixture_learning_rate: -1.0 is not allowed"),
        ("fedacg", {"acceleration": 1.0}, "acceleration: 1.0 is not allowed"),
        ("fedacg", {"mu": -1.0}, "mu: -1.0 is not allowed"),
        ("adafedprox", {"mu": 1.5}, "mu: 1.5 is not allowed, it must be in [0, 1]"),
        ("adafedprox", {"patience": 0}, "patience: 0 is not allowed"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(name, options, said):
    with pytest.raises(fx.InputError) as error:
        ALGORITHMS[name](**options)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
