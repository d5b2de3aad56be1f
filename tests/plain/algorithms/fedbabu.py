"""FedBABU: the body is trained under the first head, and both are tuned for five epochs."""

import numpy as np


def client(c, w, received, own):
    trained = c.train(correct=lambda x: np.where(c.head, w, x), regulate=False)
    update = np.zeros_like(w)
    update[~c.head] = c.regulate(trained.deltas[:, ~c.head])
    return {"update": update}, w[c.head]


def personal(c, w, received, own):
    return c.train(epochs=5, regulate=False).params
