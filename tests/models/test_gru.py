"""The recurrent network against its formulas, a position at a time in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.models import gru, logistic_regression

KEY = jax.random.key(0)
SPEC = fx.Spec((4,), 3, vocabulary=6, target_shape=(4,))
TOKENS = np.random.default_rng(0).integers(0, 6, (3, 4)).astype(np.int32)


def outputs(model, params, tokens):
    mask = jnp.ones(len(tokens), bool)
    x = jnp.asarray(tokens)
    return np.asarray(model.apply(params, {}, x, mask=mask, train=True, key=KEY)[0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_loop(params, tokens, layers):
    found = np.zeros((*tokens.shape, 3))
    for b, sequence in enumerate(tokens):
        states = [np.zeros(p["state"]["kernel"].shape[0]) for p in layers]
        for t, token in enumerate(sequence):
            x = params["embedding"][token]
            for number, (p, h) in enumerate(zip(layers, states, strict=True)):
                w = np.split(x @ p["input"]["kernel"] + p["input"]["bias"], 3)
                u = np.split(h @ p["state"]["kernel"] + p["state"]["bias"], 3)
                r, z = sigmoid(w[0] + u[0]), sigmoid(w[1] + u[1])
                x = states[number] = (1 - z) * np.tanh(w[2] + r * u[2]) + z * h
            found[b, t] = x @ params["fc1"]["kernel"] + params["fc1"]["bias"]
    return found


def test_it_is_its_formulas_at_every_position():
    with jax.enable_x64(True):
        model = gru(SPEC, embedding=2, hidden=(5, 4), dtype=jnp.float64)
        params = jax.tree.map(np.asarray, model.init(KEY)[0])
        expected = by_loop(params, TOKENS, [params["gru1"], params["gru2"]])
        np.testing.assert_allclose(outputs(model, params, TOKENS), expected, rtol=1e-10)

        one_label = gru(SPEC._replace(target_shape=()), embedding=2, hidden=(5, 4))
        np.testing.assert_allclose(outputs(one_label, params, TOKENS), expected[:, -1], rtol=1e-10)


def test_what_stands_behind_a_position_does_not_reach_it():
    model = gru(SPEC, embedding=2, hidden=(5,))
    params, _ = model.init(KEY)
    changed = TOKENS.copy()
    changed[:, 2:] = 5 - changed[:, 2:]
    before, after = outputs(model, params, TOKENS), outputs(model, params, changed)
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    assert not np.allclose(after[:, 2:], before[:, 2:])


def test_the_number_and_the_range_of_first_parameters():
    params, _ = gru(fx.Spec((80,), 80, vocabulary=80)).init(KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 63_952
    bound = 128**-0.5
    for leaf in jax.tree.leaves(params["gru1"]):
        assert bound * 0.95 < np.abs(leaf).max() <= bound


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        (fx.Spec((4,), 3), {}, r"gru: takes tokens \(length,\), not numbers \(4,\)"),
        (fx.Spec((4,), 3, 6, (3,)), {}, r"gru: labels of shape \(3,\) are not allowed"),
        (SPEC, {"hidden": (0,)}, "hidden: 0 is not allowed"),
        (SPEC, {"embedding": 0}, "embedding: 0 is not allowed"),
    ],
)
def test_what_it_does_not_take(spec, given, message):
    with pytest.raises(fx.InputError, match=message):
        gru(spec, **given)


def test_other_models_refuse_tokens():
    with pytest.raises(fx.InputError, match="takes numbers, not tokens"):
        logistic_regression(SPEC)
