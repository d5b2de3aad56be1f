"""MOON: the loss plus μ times the contrastive term; a client keeps where it last ended."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np


def init_client(w):
    return w


def client(c, w, received, own):
    term = _gradient_of_contrast(c.world.features)

    def gradient(x, rows):
        inputs, temperature = c.world.inputs[rows], c.numbers["temperature"]
        away = np.asarray(term(x, w, own, inputs, temperature))
        return c.gradient(x, rows) + c.numbers["mu"] * away

    trained = c.train(gradient=gradient)
    return {"update": trained.update}, trained.params


@cache
def _gradient_of_contrast(features):
    """`(x, w, own, inputs, temperature) ->` the term's gradient, compiled once for a shape."""

    def contrast(x, w, own, inputs, temperature):
        here, there, before = (features(one, inputs) for one in (x, w, own))
        total = 0.0
        for z, wanted, unwanted in zip(here, there, before, strict=True):
            pull = jnp.exp(_cosine(z, wanted) / temperature)
            push = jnp.exp(_cosine(z, unwanted) / temperature)
            total = total - jnp.log(pull / (pull + push))
        return total / len(inputs)

    return jax.jit(jax.grad(contrast))


def _cosine(a, b):
    squares = jnp.dot(a, a) * jnp.dot(b, b)
    there = squares > 0
    return jnp.where(there, jnp.dot(a, b), 0) / jnp.sqrt(jnp.where(there, squares, 1))
