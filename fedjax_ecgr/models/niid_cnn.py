"""NIID-Bench's convolutional network (Li, Diao, Chen and He, arXiv 2102.02079): LeNet unpadded."""

import jax.numpy as jnp

from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.lenet import lenet
from fedjax_ecgr.types import DType


def niid_cnn(spec: Spec, initial: str = "pytorch", dtype: DType = jnp.float32) -> Model:
    """Returns NIID-Bench's CNN: 44,426 parameters on 28 × 28 × 1 with ten classes.

    conv1 (6, 5 × 5), max-pool 2, ReLU, conv2 (16, 5 × 5), max-pool 2, ReLU, flatten, fc1 (120),
    ReLU, fc2 (84), ReLU, fc3 (classes); on 32 × 32 × 3 it has 62,006 parameters.

    Args:
      spec: shape of an example (height, width, channels) and number of classes.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: examples are no images, or smaller than 16 × 16, where nothing is left to pool.
    """
    return lenet(spec, padding=0, initial=initial, dtype=dtype)._replace(name="niid_cnn")
