"""The convolutional network of pfl-research's CIFAR-10 benchmark (Granqvist et al., 2404.06430)."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import InputError, number
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_images
from fedjax_ecgr.models.layers import conv, conv_init, conv_pool, dropout, flatten
from fedjax_ecgr.models.mlp import head_init, headed, hidden_layers
from fedjax_ecgr.types import Array, DType, PyTree


def pfl_cnn(
    spec: Spec,
    drop: Sequence[float] = (0.25, 0.5),
    initial: str = "glorot",
    dtype: DType = jnp.float32,
) -> Model:
    """Returns pfl's CNN: 1,626,442 parameters on 32 × 32 × 3 with ten classes.

    conv1 (32, 3 × 3), ReLU, conv2 (64, 3 × 3), ReLU, max-pool 2, dropout, flatten, fc1 (128), ReLU,
    dropout, fc2 (classes). On 28 × 28 × 1 with 62 classes it is the network that Reddi et al.
    (arXiv 2003.00295) have for EMNIST, of 1,206,590 parameters.

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      drop: share of numbers that each of the two dropouts sets to 0 in training, in [0, 1).
      initial: how parameters start: `pytorch`, `glorot` (as in pfl), `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or smaller than 6 × 6, or an option is out of range.
    """
    check_images("pfl_cnn", spec, 6, "two 3x3 convolutions and a pooling")
    if not isinstance(drop, Sequence) or len(drop) != 2:
        raise InputError(
            f"drop: {drop!r} is not allowed, it must be two shares such as (0.25, 0.5)"
        )
    for share in drop:
        number("drop", share, low=0, high=1, high_open=True)
    *sides, inputs = spec.input_shape
    features = 64 * math.prod((side - 4) // 2 for side in sides)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        key1, key2, key3 = jax.random.split(key, 3)
        params = {
            "conv1": conv_init(key1, 3, inputs, 32, dtype),
            "conv2": conv_init(key2, 3, 32, 64, dtype),
            **head_init(key3, (features, 128, spec.num_classes), dtype),
        }
        return params, {}

    def body(
        params: PyTree, stats: PyTree, inputs: Array, *, train: bool, key: Array, **_: Any
    ) -> tuple[Array, PyTree]:
        first, second = jax.random.split(key)
        x = jax.nn.relu(conv(params["conv1"], inputs, "VALID"))
        x = jax.nn.relu(conv_pool(params["conv2"], x, "VALID"))
        x = dropout(first, x, drop[0], train)
        x = hidden_layers(params, flatten(x))
        return dropout(second, x, drop[1], train), stats

    return headed("pfl_cnn", init, body, initial)
