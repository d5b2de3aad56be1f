"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998) with ReLU and max-pooling."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import count
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_images
from fedjax_ecgr.models.layers import conv_init, conv_pool, flatten
from fedjax_ecgr.models.mlp import head_init, headed, hidden_layers
from fedjax_ecgr.types import Array, DType, PyTree


def lenet(spec: Spec, padding: int = 2, dtype: DType = jnp.float32) -> Model:
    """Returns LeNet-5: 61,706 parameters on 28 × 28 × 1 with ten classes.

    conv1 (6, 5 × 5, padded), ReLU, max-pool 2, conv2 (16, 5 × 5), ReLU, max-pool 2, flatten,
    fc1 (120), ReLU, fc2 (84), ReLU, fc3 (classes).

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      padding: rows and columns of zeros around the image; 2 keeps its size.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or so small (below 12 × 12 where the size is kept)
        that nothing is left to pool.
    """
    count("padding", padding, low=0)
    smallest = max(16 - 2 * padding, 1)
    check_images("lenet", spec, smallest, "two 5x5 convolutions and poolings")
    height, width, channels = spec.input_shape
    features = 16 * math.prod(((side + 2 * padding - 4) // 2 - 4) // 2 for side in (height, width))
    edges = ((padding, padding), (padding, padding))

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
        x = jax.nn.relu(conv_pool(params["conv1"], inputs, edges))
        x = jax.nn.relu(conv_pool(params["conv2"], x, "VALID"))
        return hidden_layers(params, flatten(x)), stats

    return headed("lenet", init, body)
