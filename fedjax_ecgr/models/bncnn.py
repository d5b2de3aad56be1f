"""A convolutional network with batch normalisation, in VGG's pattern."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import count
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_images, check_widths
from fedjax_ecgr.models.layers import (
    batch_norm,
    batch_norm_init,
    conv,
    conv_init,
    flatten,
)
from fedjax_ecgr.models.mlp import head_init, headed, hidden_layers
from fedjax_ecgr.ops.pooling import max_pool
from fedjax_ecgr.types import Array, DType, PyTree


def bncnn(
    spec: Spec,
    blocks: Sequence[Sequence[int]] = ((64, 64), (128, 128), (256, 256)),
    hidden: Sequence[int] = (),
    kernel: int = 3,
    initial: str = "pytorch",
    dtype: DType = jnp.float32,
) -> Model:
    """Returns blocks of convolutions and a dense head; by default the 6-convolution CNN.

    Each convolution (same size, no bias) is followed by batch normalisation and ReLU, and each
    block by max-pooling, 2 × 2. Parameters are {"conv1": {"kernel"}, "bn1": {"scale", "bias"}, …,
    "fc1": {"kernel", "bias"}, …}, numbered through the blocks; statistics {"bn1": {"mean",
    "var"}, …}. The default has 1,187,274 parameters on 32 × 32 × 3 with ten classes.

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      blocks: for each block, the channels of each of its convolutions.
      hidden: width of each hidden layer of the head.
      kernel: side of the convolutions' kernels.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or too small to be halved by every block; a number is not
        a positive whole one.
    """
    for block in blocks:
        check_widths("blocks", block)
        count("blocks", len(block))
    check_widths("hidden", hidden)
    count("kernel", kernel)
    smallest = 2 ** len(blocks)
    check_images("bncnn", spec, smallest, f"{len(blocks)} poolings")
    height, width, inputs = spec.input_shape
    channels = [inputs, *(outputs for block in blocks for outputs in block)]
    block_ends = set(itertools.accumulate(len(block) for block in blocks))
    features = (height // smallest) * (width // smallest) * channels[-1]

    def init(key: Array) -> tuple[PyTree, PyTree]:
        head_key, *keys = jax.random.split(key, len(channels))
        params = head_init(head_key, (features, *hidden, spec.num_classes), dtype)
        stats = {}
        for i, key in enumerate(keys, start=1):
            params[f"conv{i}"] = conv_init(
                key, kernel, channels[i - 1], channels[i], dtype, bias=False
            )
            params[f"bn{i}"], stats[f"bn{i}"] = batch_norm_init(channels[i], dtype)
        return params, stats

    def body(
        params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool, key: Array
    ) -> tuple[Array, PyTree]:
        x, new_stats = inputs, {}
        for i in range(1, len(channels)):
            x = conv(params[f"conv{i}"], x, "SAME")
            x, new_stats[f"bn{i}"] = batch_norm(
                params[f"bn{i}"], stats[f"bn{i}"], x, mask=mask, train=train
            )
            # ReLU commutes with the maximum, in values and gradients.
            x = jax.nn.relu(max_pool(x) if i in block_ends else x)
        return hidden_layers(params, flatten(x)), new_stats

    return headed("bncnn", init, body, initial)
