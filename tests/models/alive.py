"""Parameters and statistics of models that are all alive, drawn by NumPy: nothing is compiled."""

import jax
import numpy as np


def drawn(model):
    """Returns `(params, stats)`: kernels as wide as their fan-in asks, all else in [0.1, 0.5]."""
    rng = np.random.default_rng(0)

    def alive(x):
        if x.ndim == 1:
            values = rng.uniform(0.1, 0.5, x.shape)
        else:
            values = rng.normal(size=x.shape) / np.prod(x.shape[:-1]) ** 0.5
        return values.astype(x.dtype)

    return jax.tree.map(alive, jax.eval_shape(model.init, jax.random.key(0)))
