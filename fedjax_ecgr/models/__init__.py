"""Models behind one contract: a pure `init` and a pure `apply` (`base.py`)."""

from collections.abc import Callable

from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.bncnn import bncnn
from fedjax_ecgr.models.flax_linen import from_linen
from fedjax_ecgr.models.flax_nnx import from_nnx
from fedjax_ecgr.models.lenet import lenet
from fedjax_ecgr.models.logistic import logistic_regression
from fedjax_ecgr.models.mlp import mlp
from fedjax_ecgr.ops.convolution import conv_general_dilated

MODELS: dict[str, Callable[..., Model]] = {
    "logistic_regression": logistic_regression,
    "mlp": mlp,
    "lenet": lenet,
    "bncnn": bncnn,
}
"""The built-in models, by the name a run's configuration gives; each takes a `Spec`."""

__all__ = [
    "MODELS",
    "Model",
    "bncnn",
    "conv_general_dilated",
    "from_linen",
    "from_nnx",
    "lenet",
    "logistic_regression",
    "mlp",
]
