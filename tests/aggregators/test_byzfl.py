"""Rules against what byzfl made of the same updates; tests/data/byzfl/README.md says how."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_ecgr import aggregators as rules
from fedjax_ecgr.aggregators.base import Received

CASES = np.load(Path(__file__).parents[1] / "data" / "byzfl" / "cases.npz")
NAMES = sorted({key.split("/")[0] for key in CASES})


def aggregate(aggregator, updates, state=None):
    n = len(updates)
    state = aggregator.init(jnp.zeros(updates.shape[1])) if state is None else state
    numbers = {key: jnp.asarray(x, float) for key, x in aggregator.hyperparameters.items()}
    who = jnp.arange(n, dtype=jnp.int32)
    weights, present = jnp.full(n, 1 / n), jnp.ones(n, bool)
    given = Received(who, weights, present, state, jax.random.key(0), numbers)
    return jax.jit(aggregator.aggregate)(jnp.asarray(updates), state, given)


def agree(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_same_as_byzfl(name, x64):
    n, f = map(int, name.split("_"))
    case = {key.split("/")[1]: CASES[key] for key in CASES if key.startswith(f"{name}/")}
    updates = case["updates"]
    made_by = {
        "median": rules.median(),
        "trimmed_mean": rules.trimmed_mean(num_malicious=f),
        "krum": rules.krum(num_malicious=f - 1),
        "multi_krum": rules.multi_krum(num_malicious=f - 1, num_selected=n - f),
        "geometric_median": rules.geometric_median(smoothing=0.1, iterations=5),
        "centred_clipping_3_steps": rules.centred_clipping(radius=2.0, iterations=3),
    }
    for key, aggregator in made_by.items():
        agree(aggregate(aggregator, updates)[0], case[key])
    first, state = aggregate(rules.centred_clipping(radius=3.0), updates)
    second, _ = aggregate(rules.centred_clipping(radius=3.0), 0.5 * updates, state)
    agree(first, case["centred_clipping_1"])
    agree(second, case["centred_clipping_2"])
