"""Drawn evenly: the clients of the largest draws of 30 bits; of equals, the first."""

import jax
import numpy as np


def sample(key, t, sizes, size, numbers=None, state=None, losses=None):
    num_clients = len(sizes)
    clients = list(range(num_clients))
    if size < num_clients:
        draws = np.asarray(jax.random.bits(key, (num_clients,), np.uint32)).astype(np.int64)
        clients = sorted(np.argsort(-(draws >> 2), kind="stable")[:size].tolist())
    return clients, [float(sizes[i]) for i in clients]
