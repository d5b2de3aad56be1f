"""FedAdagrad: m ← β1 m + (1−β1) ū, v ← v + ū², w ← w − η_s m / (√v + τ)."""

import numpy as np


def init_server(w, num_clients):
    return None, 0 * w, None


def server(w, state, upload, numbers, cohort):
    u, b1, tau = upload["update"], numbers["b1"], numbers["tau"]
    _, m, v = state
    v = np.full_like(w, tau**2) if v is None else v
    m = b1 * m + (1 - b1) * u
    v = v + u**2
    return w - numbers["server_learning_rate"] * m / (np.sqrt(v) + tau), (None, m, v)
