"""FedRep: ten epochs of the head under a still body, then the body under a still head."""

import numpy as np

from tests.plain.algorithms.fedper import under


def client(c, w, received, own):
    def still(part, at):
        return lambda x: np.where(part, at, x)

    start = under(c, w, own)
    fitted = c.train(
        start=start, correct=still(~c.head, start), epochs=10, stream=1, regulate=False
    ).params
    trained = c.train(start=fitted, correct=still(c.head, fitted), regulate=False)
    update = np.zeros_like(w)
    update[~c.head] = c.regulate(trained.deltas[:, ~c.head])
    return {"update": update}, fitted[c.head]


def personal(c, w, received, own):
    return under(c, w, own)
