"""APFL with an α of each client's own: α ← α − η ⟨v − w, ∇f(v̄)⟩ once a round, within [0, 1]."""

import numpy as np

from tests.plain.algorithms.apfl import both, mix

START = 0.5


def init_client(w):
    return {"params": w, "shift": 0.0}


def client(c, w, received, own):
    v, alpha = own["params"], START + own["shift"]
    slope = (v - w) @ c.gradient(mix(alpha, v, w), c.rows)
    alpha = np.clip(alpha - c.eta * slope, 0, 1)
    update, v = both(c, w, v, alpha)
    return {"update": update}, {"params": v, "shift": alpha - START}


def personal(c, w, received, own):
    return mix(START + own["shift"], own["params"], w)
