"""AlexNet for CIFAR (Krizhevsky, Sutskever and Hinton, 2012): two convolutions instead of five."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_images
from fedjax_ecgr.models.layers import (
    conv,
    conv_init,
    flatten,
    local_response_norm,
    overlapping_max_pool,
)
from fedjax_ecgr.models.mlp import head_init, headed, hidden_layers
from fedjax_ecgr.types import Array, DType, PyTree


def alexnet(spec: Spec, initial: str = "pytorch", dtype: DType = jnp.float32) -> Model:
    """Returns AlexNet for CIFAR: 1,756,426 parameters on 32 × 32 × 3 with ten classes.

    conv1 (64, 5 × 5, padded), ReLU, max-pool 3 with stride 2, normalisation over 4 channels, conv2
    (64, 5 × 5, padded), ReLU, normalisation, max-pool, flatten, fc1 (384), ReLU, fc2 (192), ReLU,
    fc3 (classes): the network of TensorFlow's CIFAR-10 tutorial, and by that number of parameters
    the one of the ECGR paper.

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or `initial` is unknown.
    """
    check_images("alexnet", spec)
    *sides, inputs = spec.input_shape
    features = 64 * math.prod(-(-side // 4) for side in sides)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        key1, key2, key3 = jax.random.split(key, 3)
        params = {
            "conv1": conv_init(key1, 5, inputs, 64, dtype),
            "conv2": conv_init(key2, 5, 64, 64, dtype),
            **head_init(key3, (features, 384, 192, spec.num_classes), dtype),
        }
        return params, {}

    def body(params: PyTree, stats: PyTree, inputs: Array, **_: Any) -> tuple[Array, PyTree]:
        x = overlapping_max_pool(jax.nn.relu(conv(params["conv1"], inputs, "SAME")))
        x = jax.nn.relu(conv(params["conv2"], local_response_norm(x), "SAME"))
        x = overlapping_max_pool(local_response_norm(x))
        return hidden_layers(params, flatten(x)), stats

    return headed("alexnet", init, body, initial)
