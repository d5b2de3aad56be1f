"""The types that every room speaks of."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Array = jax.Array
AnyArray = jax.Array | np.ndarray
"""An array on a device or on the host."""
PyTree = Any
Hyperparameters = Mapping[str, Any]
"""The numbers of one part, by name: array leaves of the compiled program."""
Loss = Callable[[Array, Array], Array]
"""`(outputs [B, classes], labels [B]) -> [B]`."""
