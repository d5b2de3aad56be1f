"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998) with ReLU and max-pooling."""

import jax.numpy as jnp

from fedjax_ecgr.check import count
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.convolutions import pooled
from fedjax_ecgr.types import DType


def lenet(
    spec: Spec, padding: int = 2, initial: str = "pytorch", dtype: DType = jnp.float32
) -> Model:
    """Returns LeNet-5: 61,706 parameters on 28 × 28 × 1 with ten classes.

    conv1 (6, 5 × 5, padded), ReLU, max-pool 2, conv2 (16, 5 × 5), ReLU, max-pool 2, flatten,
    fc1 (120), ReLU, fc2 (84), ReLU, fc3 (classes).

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      padding: rows and columns of zeros around the image; 2 keeps its size.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or so small (below 12 × 12 where the size is kept)
        that nothing is left to pool, or `initial` is unknown.
    """
    count("padding", padding, low=0)
    return pooled(
        "lenet",
        spec,
        channels=(6, 16),
        paddings=(padding, 0),
        hidden=(120, 84),
        initial=initial,
        dtype=dtype,
    )
