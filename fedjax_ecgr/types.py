"""The types that every room speaks of."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
AnyArray = jax.Array | np.ndarray
"""An array on a device or on the host."""
PyTree = Any
Hyperparameters = Mapping[str, Any]
"""The numbers of one part, by name: array leaves of the compiled program."""
Loss = Callable[[Array, Array], Array]
"""`(outputs [B, ..., classes], labels [B, ...]) -> [B, ...]`; labels are never below 0."""
PYTHON_ONLY = "Python only"
"""`Annotated[..., PYTHON_ONLY]`: an option that no file and no command line can hold."""
DType = Annotated[Any, PYTHON_ONLY]
"""The dtype of parameters, as NumPy takes one."""


def counting_dtype(dtype: Any) -> Any:
    """Returns the type to count in beside parameters of `dtype`: float32, or float64 beside that.

    A half-precision type holds no more than the whole numbers to 256 (bfloat16) or 2048 (float16).
    """
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
