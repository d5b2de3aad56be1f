"""What LeNet and its relatives are: 5 × 5 convolutions, each pooled, and dense layers."""

import math
from collections.abc import Sequence
from typing import Any

import jax

from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_images
from fedjax_ecgr.models.layers import conv_init, conv_pool, flatten
from fedjax_ecgr.models.mlp import head_init, headed, hidden_layers
from fedjax_ecgr.types import Array, PyTree

_KERNEL = 5


def pooled(
    name: str,
    spec: Spec,
    *,
    channels: Sequence[int],
    paddings: Sequence[int],
    hidden: Sequence[int],
    initial: str,
    dtype: Any,
) -> Model:
    """Returns convolutions (5 × 5), each with ReLU and 2 × 2 max-pooling, then dense layers.

    Args:
      name: what reports call it.
      spec: shape of an example (height, width, channels) and number of classes.
      channels: of each convolution.
      paddings: rows and columns of zeros around what each convolution is given.
      hidden: width of each hidden layer.
      initial: see `fedjax_ecgr.models.initial`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or so small that nothing is left to pool.
    """
    smallest = 1
    for padding in reversed(paddings):
        smallest = max(2 * smallest + _KERNEL - 1 - 2 * padding, 1)
    check_images(name, spec, smallest, "two 5x5 convolutions and poolings")
    *sides, inputs = spec.input_shape
    for padding in paddings:
        sides = [(side + 2 * padding - _KERNEL + 1) // 2 for side in sides]
    features = math.prod(sides) * channels[-1]

    def init(key: Array) -> tuple[PyTree, PyTree]:
        *keys, head_key = jax.random.split(key, len(channels) + 1)
        ends = zip(keys, (inputs, *channels[:-1]), channels, strict=True)
        params = {
            f"conv{number}": conv_init(key, _KERNEL, before, after, dtype)
            for number, (key, before, after) in enumerate(ends, start=1)
        }
        return {**params, **head_init(head_key, (features, *hidden, spec.num_classes), dtype)}, {}

    def body(params: PyTree, stats: PyTree, inputs: Array, **_: Any) -> tuple[Array, PyTree]:
        x = inputs
        for number, padding in enumerate(paddings, start=1):
            # ReLU commutes with the maximum, in values and gradients: after it, a quarter of it
            x = jax.nn.relu(conv_pool(params[f"conv{number}"], x, ((padding, padding),) * 2))
        return hidden_layers(params, flatten(x)), stats

    return headed(name, init, body, initial)
