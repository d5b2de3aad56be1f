"""VGG11 for small images (Simonyan and Zisserman, arXiv 1409.1556, configuration A)."""

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import count
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_images
from fedjax_ecgr.models.layers import Norm, conv, conv_init
from fedjax_ecgr.models.mlp import head_init, headed
from fedjax_ecgr.ops.pooling import max_pool
from fedjax_ecgr.types import Array, DType, PyTree

_BLOCKS = ((1,), (2,), (4, 4), (8, 8), (8, 8))


def vgg11(
    spec: Spec,
    norm: str = "none",
    groups: int = 2,
    width: int = 64,
    initial: str = "pytorch",
    dtype: DType = jnp.float32,
) -> Model:
    """Returns VGG11 with one dense layer: 9,225,610 parameters on three channels with ten classes.

    Eight convolutions (3 × 3, padded, 64 to 512 channels), each with ReLU, in five blocks that end
    in max-pooling, 2 × 2; what is left is averaged over its positions (one, of 32 × 32) and goes to
    fc1 (classes), in place of the two layers of 4,096 that ImageNet's has: the usual form for
    CIFAR. With a normalisation behind each convolution there are 9,231,114.

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      norm: what is behind each convolution: `none`, `batch` or `group`.
      groups: of channels, for `group`.
      width: channels of the first convolution; the last have 8 times as many.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or smaller than 32 × 32, or an option is not allowed.
    """
    check_images("vgg11", spec, 2 ** len(_BLOCKS), "five poolings")
    count("width", width)
    layer = Norm.of(norm, groups, width)
    channels = [spec.input_shape[-1], *(width * times for block in _BLOCKS for times in block)]

    def init(key: Array) -> tuple[PyTree, PyTree]:
        head_key, *keys = jax.random.split(key, len(channels))
        params, stats = head_init(head_key, (channels[-1], spec.num_classes), dtype), {}
        for i, own in enumerate(keys, start=1):
            params[f"conv{i}"] = conv_init(own, 3, channels[i - 1], channels[i], dtype)
            params[f"norm{i}"], stats[f"norm{i}"] = layer.init(channels[i], dtype)
        return params, stats

    def body(
        params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool, key: Array
    ) -> tuple[Array, PyTree]:
        del key
        x, new_stats, i = inputs, {}, 0
        for block in _BLOCKS:
            for _ in block:
                i += 1
                x = conv(params[f"conv{i}"], x, "SAME")
                x, new_stats[f"norm{i}"] = layer.apply(
                    params[f"norm{i}"], stats[f"norm{i}"], x, mask=mask, train=train
                )
                x = jax.nn.relu(x)
            x = max_pool(x)
        return x.mean(axis=(1, 2)), new_stats

    return headed("vgg11", init, body, initial)
