"""MimeLite: w ← w − η((1 − β) g + β s), the server's momentum held."""

import numpy as np


def init_server(w, num_clients):
    return np.zeros_like(w)


def whole_gradient(c, w):
    return c.gradient(w, c.rows) + c.numbers["weight_decay"] * w


def descend(c, w, momentum, gradient):
    """Local steps with a momentum that does not move; returns the update."""
    beta, x, deltas = c.numbers["momentum"], w, []
    for rows in c.batches():
        g = gradient(x, rows) + c.numbers["weight_decay"] * x
        deltas.append(c.eta * ((1 - beta) * g + beta * momentum))
        x = x - deltas[-1]
    return c.regulate(np.array(deltas))


def client(c, w, received, own):
    update = descend(c, w, received, c.gradient)
    return {"update": update, "weighted": whole_gradient(c, w)}, own


def server(w, state, upload, numbers, cohort):
    momentum = (1 - numbers["momentum"]) * upload["weighted"] + numbers["momentum"] * state
    return w - numbers["server_learning_rate"] * upload["update"], momentum
