"""Devices that manage everything: as if there were none."""

import jax
import numpy as np

from fedjax_ecgr.systems import ideal
from tests.engine.test_parts import simulation


def test_it_changes_nothing_and_costs_nothing():
    key, ends, costs = jax.random.key(0), [], []
    for built in (simulation(), simulation(system=ideal())):
        state, numbers = built.init(key), built.hyperparameters
        compiled = jax.jit(built.round).lower(state, key, numbers).compile()
        ends.append(compiled(state, key, numbers))
        costs.append(compiled.cost_analysis()["flops"])
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_array_equal(a, b)
    assert ends[1][1].seconds == 0
    assert costs[0] == costs[1] > 0
