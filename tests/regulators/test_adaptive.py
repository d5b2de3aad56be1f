"""Regulators with a memory, without stored deltas, and the plain example: against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.regulators import Given, online_ecgr
from fedjax_ecgr.regulators.ecgr import STORAGES
from tests.plain.regulators import adaptive_ecgr as plain

NUMBERS = {"beta": 0.5, "select_ratio": 0.4, "rate": 0.7, "target": 0.95}


def rounds(regulator, numbers, cases):
    """β's and updates of one client over some rounds of deltas."""
    params = jnp.zeros(cases[0].shape[1])

    @jax.jit
    def one(deltas, given):
        state = regulator.init(params, len(deltas) + 2, given)
        for delta in deltas:
            state = regulator.update(delta, state)
        if regulator.replay is not None:
            state = regulator.replay.init(params, state, given)
            for delta in deltas:
                state = regulator.replay.update(delta, state)
        update, info = regulator.finalize(state, deltas.sum(axis=0), given)
        return update, info, regulator.learn(given.memory, info, given)

    memory, found = regulator.remember(params), []
    for deltas in cases:
        given = Given({k: jnp.asarray(v, params.dtype) for k, v in numbers.items()}, memory)
        update, info, memory = one(jnp.asarray(deltas), given)
        found.append((np.asarray(update), float(info.beta), float(memory), info))
    return found


@pytest.mark.parametrize("feedback", ["cosine", "spread"])
@pytest.mark.parametrize("storage", [s for s in STORAGES if s != "bfloat16"])
def test_beta_moves_as_the_formula_says(feedback, storage, x64):
    rng = np.random.default_rng(0)
    cases = [rng.normal(size=(tau, 9)) + shift for tau, shift in ((5, 0), (1, 0), (6, 2), (5, -1))]
    regulator = fx.adaptive_ecgr(**NUMBERS, feedback=feedback, storage=storage, sketch_size=100)
    rule = plain.regulate if feedback == "cosine" else plain.regulate_by_spread
    memory, betas = None, []
    for deltas, (update, beta, after, info) in zip(
        cases, rounds(regulator, NUMBERS, cases), strict=True
    ):
        assert abs(beta - (NUMBERS["beta"] if memory is None else memory)) < 1e-12
        wanted, memory = rule(deltas, NUMBERS, memory, None)
        np.testing.assert_allclose(update, wanted, atol=1e-12)
        assert abs(after - memory) < 1e-12
        assert abs(float(info.ecgr.spread) - plain.spread(deltas)) < 1e-12
        betas.append(beta)
    assert len({round(beta, 6) for beta in betas}) > 2  # it did move


def test_without_a_rate_it_is_ecgr(x64):
    deltas = [np.random.default_rng(seed).normal(size=(6, 7)) for seed in range(3)]
    numbers = {**NUMBERS, "rate": 0.0}
    reaggregate = jax.jit(fx.reaggregate)
    for update, beta, after, _ in rounds(fx.adaptive_ecgr(**numbers), numbers, deltas):
        assert beta == after == 0.5
        exact, _ = reaggregate(jnp.asarray(deltas.pop(0)), beta=0.5, select_ratio=0.4)
        np.testing.assert_allclose(update, exact, atol=1e-12)


def test_each_client_has_a_beta_of_its_own_and_keeps_it_while_absent():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 40).astype(np.int32)
    examples = fx.Examples(inputs, labels, np.float32(0), np.float32(1))
    clients = fx.partition.iid(examples, num_clients=5)
    model = fx.models.logistic_regression(fx.Spec((3,), 3))
    method = fx.fedavg(regulator=fx.adaptive_ecgr(feedback="spread"))
    sim = fx.simulation(method, model, clients, cohort_size=2, batch_size=2)
    key = jax.random.key(0)
    state, info = sim.block(sim.init(key), key, sim.hyperparameters, 1, 1)
    took_part = np.isin(np.arange(5), info.cohort[0])
    betas = np.asarray(state.clients.regulator)
    assert (betas[~took_part] == -1).all()
    assert ((betas[took_part] >= 0) & (betas[took_part] <= 1)).all()
    assert len(np.unique(betas[took_part])) == 2


def test_online_is_its_plain_loop_in_plain_optax(x64):
    """Gradient descent on a quadratic with noise, against NumPy step by step."""
    rng = np.random.default_rng(1)
    noise, rate, beta, threshold = rng.normal(size=(30, 4)), 0.2, 0.3, 0.1
    optimizer = optax.chain(optax.sgd(rate), online_ecgr(beta, threshold))
    w, state = jnp.ones(4), optimizer.init(jnp.ones(4))
    x, kept, kinds = np.ones(4), np.zeros(4), [0, 0]
    for shift in noise:
        step, state = optimizer.update(w + jnp.asarray(shift), state, w)
        w = optax.apply_updates(w, step)
        d = -rate * (x + shift)
        cosine = kept @ d / (np.linalg.norm(kept) * np.linalg.norm(d)) if kept.any() else -1
        if cosine < threshold or np.linalg.norm(kept + d) <= np.linalg.norm(kept):
            kept, x, kinds[0] = kept + d, x + d, kinds[0] + 1
        else:
            x, kinds[1] = x + beta * d, kinds[1] + 1
        np.testing.assert_allclose(w, x, atol=1e-12)
    online = state[1]
    assert [int(online.num_convergent), int(online.num_exploratory)] == kinds
    assert min(kinds) > 3


def test_online_leaves_the_optimiser_as_it_is_at_the_ends_of_its_numbers():
    """Equal steps too, whose cosine is 1 or what rounding makes of it."""
    step = jnp.array([0.3, -0.7, 0.1])
    for numbers in ({"threshold": 1.0}, {"beta": 1.0}):
        rule = online_ecgr(**numbers)
        state = rule.init(step)
        for factor in (1.0, 1.0, 0.3, -0.2):
            taken, state = rule.update(factor * step, state)
            np.testing.assert_array_equal(taken, factor * step)


def test_online_is_a_clients_optimizer():
    data = fx.datasets.digits()
    clients = fx.partition.dirichlet(data.train, num_clients=5, alpha=0.3)
    model = fx.models.logistic_regression(data.spec)

    def optimizer(rate, numbers):
        return optax.chain(optax.sgd(rate), online_ecgr(0.5))

    with jax.numpy_dtype_promotion("standard"):
        method = fx.fedavg(optimizer=optimizer, learning_rate=0.1)
        history = fx.simulate(
            method, model, clients, test=data.test, rounds=8, eval_every=8, placement="scan"
        )
    assert history.table["test_accuracy"][-1] > 0.8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fx.adaptive_ecgr(rate=2), "rate: 2 is not allowed, it must be in [0, 1]"),
        (lambda: fx.adaptive_ecgr(target=1.5), "target: 1.5 is not allowed"),
        (lambda: fx.adaptive_ecgr(feedback="cosin"), "unknown 'cosin', did you mean 'cosine'?"),
        (lambda: fx.norm_clip(0), "max_norm: 0 is not allowed"),
        (lambda: online_ecgr(beta=-1), "beta: -1 is not allowed"),
    ],
)
def test_bad_options_are_named(make, said):
    with pytest.raises(fx.InputError) as caught:
        make()
    assert said in str(caught.value)
