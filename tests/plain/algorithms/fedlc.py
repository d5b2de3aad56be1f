"""FedLC: cross-entropy over the labels that are there, each output less τ n^(-1/4)."""

import jax.numpy as jnp
import numpy as np


def client(c, w, received, own):
    counts = c.counts()
    there = counts > 0
    margins = c.numbers["tau"] / np.where(there, counts, 1) ** 0.25
    trained = c.train(gradient=lambda x, rows: c.gradient(x, rows, _loss, there, margins))
    return {"update": trained.update}, own


def _loss(outputs, labels, there, margins):
    lowered = jnp.where(there[None], jnp.exp(outputs - margins[None]), 0)
    return -jnp.log(lowered[jnp.arange(len(labels)), labels] / lowered.sum(axis=1))
