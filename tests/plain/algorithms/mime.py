"""Mime: MimeLite with g(w) − g(w_t) + c, c the cohort's whole gradient at w_t."""

from tests.plain.algorithms.mimelite import descend, init_server, server, whole_gradient

__all__ = ["init_server", "server"]


def gather(c, w, received, own):
    return whole_gradient(c, w)


def client(c, w, received, own):
    momentum, mean = received
    decay = c.numbers["weight_decay"]

    def gradient(x, rows):
        at_start = c.gradient(w, rows) + decay * w
        return c.gradient(x, rows) - at_start + mean

    return {"update": descend(c, w, momentum, gradient), "weighted": mean}, own
