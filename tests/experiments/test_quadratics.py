"""What docs/theory.md derives, against the engine and against plain steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from experiments import quadratics
from experiments.quadratics import BETA, RATE, RHO

STEPS = 5


@pytest.fixture
def problem():
    return quadratics.draw(3, same_curvature=False)


@pytest.mark.usefixtures("x64")
def test_the_last_steps_are_the_convergent_ones_and_the_blend_is_linear(problem):
    """Proposition 1 and U, from the steps themselves."""
    whole, blend = quadratics._powers(problem, STEPS)
    rng, reaggregate = np.random.default_rng(0), jax.jit(fx.reaggregate)
    for curvature, w, u in zip(problem.curvatures, whole, blend, strict=True):
        away = rng.standard_normal(quadratics.DIMENSIONS)
        at, deltas = away, []
        for _ in range(STEPS):
            deltas.append(RATE * curvature @ at)
            at = at - deltas[-1]
        update, info = reaggregate(np.array(deltas), beta=BETA, select_ratio=RHO)
        assert info.selection.chosen.tolist() == [False, False, False, True, True]
        assert info.selection.order.tolist()[:2] == [4, 3]
        total, blended = np.sum(deltas, axis=0), u @ away
        np.testing.assert_allclose(w @ away, total, rtol=1e-12)
        expected = blended * np.linalg.norm(total) / np.linalg.norm(blended)
        np.testing.assert_allclose(update, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ["fedavg", "ecgr"])
def test_the_engine_stays_where_it_is_derived_to(problem, method):
    derived = quadratics.DERIVED[method](problem, STEPS)
    found = quadratics.measured(problem, STEPS, method, rounds=500)
    np.testing.assert_allclose(found.fixed_point, derived.fixed_point, atol=1e-11)
    assert np.linalg.norm(derived.fixed_point - problem.optimum) > 0.01


@pytest.mark.usefixtures("x64")
def test_the_server_s_step_size_gives_the_rate(problem):
    wanted = quadratics.of_ecgr(problem, STEPS).rate
    gamma = quadratics.server_rate(problem, STEPS, wanted)
    whole, _ = quadratics._powers(problem, STEPS)
    shrink = np.eye(quadratics.DIMENSIONS) - gamma * whole.mean(axis=0)
    assert gamma > 1
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(shrink)).max(), wanted, rtol=1e-9)
    assert np.isnan(quadratics.server_rate(problem, STEPS, 0.01))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ["fedavg", "ecgr"])
def test_the_rate_is_that_of_the_engine_s_round(problem, method):
    """By the derivative of a round at its fixed point, through all local steps."""
    derived = quadratics.DERIVED[method](problem, STEPS)
    built = quadratics.simulation(problem, STEPS, quadratics.REGULATORS[method])
    key = jax.random.key(0)
    state = built.init(key)

    def moved(point):
        return built.round(state._replace(params=point), key, built.hyperparameters)[0].params

    slope = jax.jit(jax.jacfwd(moved))(jnp.asarray(derived.fixed_point))
    found = np.abs(np.linalg.eigvals(np.asarray(slope))).max()
    np.testing.assert_allclose(found, derived.rate, rtol=1e-7)
