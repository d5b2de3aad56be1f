"""How the kernels and biases of the built-in models start."""

from typing import Any

import jax

from fedjax_ecgr.check import known
from fedjax_ecgr.models.base import Init
from fedjax_ecgr.types import Array, PyTree

RULES: dict[str, Any] = {
    "pytorch": None,
    "glorot": jax.nn.initializers.glorot_uniform(),
    "he": jax.nn.initializers.he_normal(),
    "lecun": jax.nn.initializers.lecun_normal(),
}
"""`pytorch`: kernels and biases from U(±1/√fan_in), as PyTorch's layers start and layers draw them.

`glorot` (Glorot and Bengio, 2010; Keras' and pfl's): U(±√(6 / (fan_in + fan_out))). `he` (He et
al., 2015): variance 2 / fan_in. `lecun` (flax's): variance 1 / fan_in. Both are normal, cut off at
two standard deviations. Biases are 0 in all three.
"""


def starting(init: Init, rule: str) -> Init:
    """Returns the model's `init` with its kernels and biases drawn by a rule of `RULES`.

    Raises:
      InputError: for an unknown rule.
    """
    draw = known("initial", rule, RULES)
    if draw is None:
        return init

    def drawn(key: Array) -> tuple[PyTree, PyTree]:
        params, stats = init(key)
        leaves, structure = jax.tree.flatten_with_path(params)
        keys = jax.random.split(key, len(leaves))

        def leaf(path: Any, own: Array, value: Array) -> Array:
            if path[-1].key == "kernel":
                return draw(own, value.shape, value.dtype)
            is_bias = path[-1].key == "bias"
            return 0 * value if is_bias else value

        found = [leaf(path, own, x) for own, (path, x) in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, found), stats

    return drawn
