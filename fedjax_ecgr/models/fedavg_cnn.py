"""The FedAvg paper's convolutional network (McMahan et al., arXiv 1602.05629, section 3)."""

import jax.numpy as jnp

from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.convolutions import pooled
from fedjax_ecgr.types import DType


def fedavg_cnn(spec: Spec, initial: str = "pytorch", dtype: DType = jnp.float32) -> Model:
    """Returns the FedAvg paper's CNN: 1,663,370 parameters on 28 × 28 × 1 with ten classes.

    conv1 (32, 5 × 5, padded), ReLU, max-pool 2, conv2 (64, 5 × 5, padded), ReLU, max-pool 2,
    flatten, fc1 (512), ReLU, fc2 (classes). (The paper's other network, 2NN, is `mlp` with hidden
    layers of 200 and 200: 199,210 parameters.)

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or smaller than 4 × 4, or `initial` is unknown.
    """
    return pooled(
        "fedavg_cnn",
        spec,
        channels=(32, 64),
        paddings=(2, 2),
        hidden=(512,),
        initial=initial,
        dtype=dtype,
    )
