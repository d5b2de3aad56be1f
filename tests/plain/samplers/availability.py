"""Windows of availability, in exact fractions."""

from fractions import Fraction

import jax
import numpy as np


def available(order, t, period, share):
    """Who is, of clients that come in this order (place 0 first): [N] bools."""
    period, share = Fraction(period), Fraction(share)
    return [(t + Fraction(k, len(order)) * period) % period < share * period for k in order]


def sample(key, t, sizes, size, numbers, state, losses=None):
    """The largest draws of those who are there; then of the others, who have no weight."""
    there = available(state, t, numbers["period"], numbers["available_share"])
    draws = np.asarray(jax.random.uniform(key, (len(sizes),), np.float32))
    order = sorted(range(len(sizes)), key=lambda i: (not there[i], -draws[i], i))
    clients = sorted(order[:size])
    return clients, [float(sizes[i]) if there[i] else 0.0 for i in clients]
