"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998) with ReLU and max-pooling."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.layers import conv_init, conv_pool, flatten
from fedjax_ecgr.models.mlp import head_init, headed, hidden_layers
from fedjax_ecgr.types import Array, DType, PyTree

SMALLEST_SIDE = 12


def lenet(spec: Spec, dtype: DType = jnp.float32) -> Model:
    """Returns LeNet-5: 61,706 parameters on 28 × 28 × 1 with ten classes.

    conv1 (6, 5 × 5, padding 2), ReLU, max-pool 2, conv2 (16, 5 × 5), ReLU, max-pool 2, flatten,
    fc1 (120), ReLU, fc2 (84), ReLU, fc3 (classes).

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or smaller than 12 × 12, where nothing is left to pool.
    """
    if len(spec.input_shape) != 3:
        raise InputError(f"lenet: takes images (height, width, channels), not {spec.input_shape}")
    height, width, channels = spec.input_shape
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"lenet: {height}x{width} images are too small for two 5x5 convolutions and poolings, "
            f"the smallest are {SMALLEST_SIDE}x{SMALLEST_SIDE}"
        )
    features = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        key1, key2, key3 = jax.random.split(key, 3)
        params = {
            "conv1": conv_init(key1, 5, channels, 6, dtype),
            "conv2": conv_init(key2, 5, 6, 16, dtype),
            **head_init(key3, (features, 120, 84, spec.num_classes), dtype),
        }
        return params, {}

    def body(params: PyTree, stats: PyTree, inputs: Array, **_: Any) -> tuple[Array, PyTree]:
        # ReLU commutes with the maximum, in values and gradients: after it, a quarter of the work.
        x = jax.nn.relu(conv_pool(params["conv1"], inputs, ((2, 2), (2, 2))))
        x = jax.nn.relu(conv_pool(params["conv2"], x, "VALID"))
        return hidden_layers(params, flatten(x)), stats

    return headed("lenet", init, body)
