"""Multinomial logistic regression: the convex model of the federated literature."""

import jax.numpy as jnp

from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.mlp import mlp
from fedjax_ecgr.types import DType


def logistic_regression(spec: Spec, initial: str = "pytorch", dtype: DType = jnp.float32) -> Model:
    """Returns one dense layer over the flattened input, {"fc1": {"kernel", "bias"}}.

    Args:
      spec: shape of an example and number of classes.
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.
    """
    return mlp(spec, hidden=(), initial=initial, dtype=dtype)._replace(name="logistic_regression")
