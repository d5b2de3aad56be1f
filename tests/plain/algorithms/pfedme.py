"""pFedMe: θ takes K steps towards the minimum of f + (λ/2)‖θ − w‖², then w moves towards θ."""

import numpy as np

K = 5


def init_client(w):
    return w


def client(c, w, received, own):
    lam, alpha = c.numbers["lam"], c.numbers["inner_rate"]
    theta, speed, deltas = w, 0 * w, []
    for rows in c.batches():
        for _ in range(K):
            theta = theta - alpha * (c.gradient(theta, rows) + lam * (theta - w))
        speed = c.numbers["momentum"] * speed + lam * (w - theta) + c.numbers["weight_decay"] * w
        deltas.append(c.eta * speed)
        w = w - c.eta * speed
    return {"update": c.regulate(np.array(deltas))}, theta


def personal(c, w, received, own):
    return own
