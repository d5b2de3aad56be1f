"""APFL: v̄ = α v + (1 − α) w; w goes down the loss at w, v down the loss at v̄."""

import numpy as np


def init_client(w):
    return w


def mix(alpha, v, w):
    return alpha * v + (1 - alpha) * w


def both(c, w, v, alpha):
    """The two trainings, step by step; returns the update of w, and v."""
    decay, momentum = c.numbers["weight_decay"], c.numbers["momentum"]
    speed_w, speed_v, deltas = 0 * w, 0 * v, []
    for rows in c.batches():
        of_w = c.gradient(w, rows)
        of_v = alpha * c.gradient(mix(alpha, v, w), rows)
        speed_w = momentum * speed_w + of_w + decay * w
        speed_v = momentum * speed_v + of_v + decay * v
        deltas.append(c.eta * speed_w)
        w, v = w - c.eta * speed_w, v - c.eta * speed_v
    return c.regulate(np.array(deltas)), v


def client(c, w, received, own):
    update, v = both(c, w, own, c.numbers["alpha"])
    return {"update": update}, v


def personal(c, w, received, own):
    return mix(c.numbers["alpha"], own, w)
