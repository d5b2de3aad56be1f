"""FedLC: cross-entropy over the labels that are there, each output less τ n^(-1/4)."""

import jax.numpy as jnp


def client(c, w, received, own):
    counts = c.counts()
    there = counts > 0
    margins = c.numbers["tau"] / counts[there] ** 0.25

    def loss(outputs, labels):
        lowered = jnp.exp(outputs[:, there] - margins[None])
        places = jnp.cumsum(there) - 1
        own = lowered[jnp.arange(len(labels)), places[labels]]
        return -jnp.log(own / lowered.sum(axis=1))

    trained = c.train(gradient=lambda x, rows: c.gradient(x, rows, loss))
    return {"update": trained.update}, own
