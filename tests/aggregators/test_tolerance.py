"""How many malicious clients those present carry."""

import jax.numpy as jnp
import pytest

from fedjax_ecgr.aggregators.tolerance import Need, tolerated


@pytest.mark.parametrize("need", [Need(2, 1), Need(2, 3), Need(4, 3)])
def test_the_largest_number_that_those_present_carry(need):
    for n in range(12):
        for f in range(6):
            carried = [g for g in range(f + 1) if need.per * g + need.more <= n]
            lowered = tolerated(jnp.array(float(f)), jnp.array(n, jnp.int32), need)
            assert int(lowered) == max(carried, default=0)
