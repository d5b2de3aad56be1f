"""PFLlib's convolutional network (Zhang et al., arXiv 2312.04992): the FedAvg paper's, unpadded."""

import jax.numpy as jnp

from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.convolutions import pooled
from fedjax_ecgr.types import DType


def pfllib_cnn(spec: Spec, initial: str = "pytorch", dtype: DType = jnp.float32) -> Model:
    """Returns PFLlib's CNN: 582,026 parameters on 28 × 28 × 1 with ten classes.

    conv1 (32, 5 × 5), ReLU, max-pool 2, conv2 (64, 5 × 5), ReLU, max-pool 2, flatten, fc1 (512),
    ReLU, fc2 (classes); on 32 × 32 × 3 it has 878,538 parameters.

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or smaller than 16 × 16, or `initial` is unknown.
    """
    return pooled(
        "pfllib_cnn",
        spec,
        channels=(32, 64),
        paddings=(0, 0),
        hidden=(512,),
        initial=initial,
        dtype=dtype,
    )
