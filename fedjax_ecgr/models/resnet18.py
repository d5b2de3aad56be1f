"""ResNet-18 (He, Zhang, Ren and Sun, arXiv 1512.03385)."""

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import count, known
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_images
from fedjax_ecgr.models.layers import Norm, conv, conv_init, overlapping_max_pool
from fedjax_ecgr.models.mlp import head_init, headed
from fedjax_ecgr.types import Array, DType, PyTree

STEMS = {
    "imagenet": "7 × 7 with stride 2, then max-pooling 3 with stride 2",
    "cifar": "3 × 3 with stride 1, for images of about 32 × 32",
}


def resnet18(
    spec: Spec,
    stem: str = "imagenet",
    norm: str = "batch",
    groups: int = 2,
    width: int = 64,
    initial: str = "pytorch",
    dtype: DType = jnp.float32,
) -> Model:
    """Returns ResNet-18: 11,689,512 parameters for ImageNet's thousand classes.

    A stem of 64 channels; four stages of two blocks of two 3 × 3 convolutions, 64 to 512 channels,
    each stage but the first beginning with stride 2 and a 1 × 1 convolution of its shortcut; the
    average over positions; fc1 (classes). A normalisation is behind each convolution, which has no
    bias. With CIFAR's stem and ten classes it has 11,173,962 parameters.

    Group normalisation (Wu and He, arXiv 1803.08494) keeps nothing between batches, and examples
    apart: what federated learning mostly takes in the place of batch normalisation (Hsieh et al.,
    arXiv 1910.00189); two groups are those of Reddi et al. (arXiv 2003.00295).

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      stem: `imagenet` or `cifar`.
      norm: what is behind each convolution: `batch`, `group` or `none`.
      groups: of channels, for `group`.
      width: channels of the stem and the first stage; the others have 2, 4 and 8 times as many.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or an option is not allowed.
    """
    check_images("resnet18", spec)
    known("stem", stem, STEMS)
    count("width", width)
    layer = Norm.of(norm, groups, width)
    blocks = _blocks(width)
    side = 7 if stem == "imagenet" else 3

    def normalised_init(
        key: Array, kernel: int, inputs: int, outputs: int
    ) -> tuple[PyTree, PyTree]:
        params, stats = layer.init(outputs, dtype)
        convolution = conv_init(key, kernel, inputs, outputs, dtype, bias=False)
        return {"conv": convolution, "norm": params}, stats

    def init(key: Array) -> tuple[PyTree, PyTree]:
        head_key, stem_key, *keys = jax.random.split(key, 2 + 3 * len(blocks))
        params = head_init(head_key, (blocks[-1][1], spec.num_classes), dtype)
        stats = {}
        params["stem"], stats["stem"] = normalised_init(stem_key, side, spec.input_shape[-1], width)
        for number, (inputs, outputs, _) in enumerate(blocks, start=1):
            own = iter(keys[3 * number - 3 : 3 * number])
            parts = {
                "first": normalised_init(next(own), 3, inputs, outputs),
                "second": normalised_init(next(own), 3, outputs, outputs),
            }
            if inputs != outputs:
                parts["shortcut"] = normalised_init(next(own), 1, inputs, outputs)
            params[f"block{number}"] = {name: part[0] for name, part in parts.items()}
            stats[f"block{number}"] = {name: part[1] for name, part in parts.items()}
        return params, stats

    def body(
        params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool, key: Array
    ) -> tuple[Array, PyTree]:
        del key

        def normalised(
            params: PyTree, stats: PyTree, x: Array, stride: int = 1
        ) -> tuple[Array, PyTree]:
            edge = params["conv"]["kernel"].shape[0] // 2
            x = conv(params["conv"], x, ((edge, edge),) * 2, stride)
            return layer.apply(params["norm"], stats, x, mask=mask, train=train)

        new = {}
        x, new["stem"] = normalised(
            params["stem"], stats["stem"], inputs, 2 if stem == "imagenet" else 1
        )
        x = jax.nn.relu(x)
        if stem == "imagenet":
            x = overlapping_max_pool(x)
        for number, (_, _, stride) in enumerate(blocks, start=1):
            own, before = params[f"block{number}"], stats[f"block{number}"]
            after = {}
            y, after["first"] = normalised(own["first"], before["first"], x, stride)
            y, after["second"] = normalised(own["second"], before["second"], jax.nn.relu(y))
            if "shortcut" in own:
                x, after["shortcut"] = normalised(own["shortcut"], before["shortcut"], x, stride)
            x, new[f"block{number}"] = jax.nn.relu(x + y), after
        return x.mean(axis=(1, 2)), new

    return headed("resnet18", init, body, initial)


def _blocks(width: int) -> list[tuple[int, int, int]]:
    """Returns channels in, channels out and stride of each block."""
    found = []
    for before, after in ((width * a, width * b) for a, b in ((1, 1), (1, 2), (2, 4), (4, 8))):
        found += [(before, after, 1 if before == after else 2), (after, after, 1)]
    return found
