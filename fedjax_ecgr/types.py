"""The types that every room speaks of."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
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
