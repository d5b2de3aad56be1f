"""A test set out of data that has none: the same one every time."""

import numpy as np

_SPLIT_SEED = 0


def held_out(labels: np.ndarray, fraction: float) -> np.ndarray:
    """Returns [N] bool: the same fraction of each class, at random with a fixed seed.

    Args:
      labels: [N] whole numbers.
      fraction: in (0, 1); of two examples or more of a class, at least one stays on either side.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    apart = np.zeros(labels.shape, bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        size = min(max(round(fraction * rows.size), 1), rows.size - 1)
        apart[rows[:size]] = True
    return apart
