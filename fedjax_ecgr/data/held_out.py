"""Examples held out of others, the same ones every time: for tests, or to choose numbers by."""

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.data.federated import Dataset, examples_at

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


def with_validation(dataset: Dataset, fraction: float = 0.1) -> Dataset:
    """Returns a dataset with examples that nobody trains on, to choose hyperparameters by.

    They are the same ones every time: a share of each class, or of each owner's where an example
    has several labels.

    Args:
      dataset: a source's examples; the test examples stay as they are.
      fraction: in (0, 1), of the training examples.

    Raises:
      InputError: if an argument is out of range.

    Example:
      >>> from fedjax_ecgr import datasets
      >>> split = with_validation(datasets.digits(), 0.1)
      >>> len(split.train.labels), len(split.validation.labels)
      (1295, 143)
    """
    check.part("dataset", dataset, Dataset, "a Dataset, such as datasets.digits()")
    check.number("fraction", fraction, low=0, high=1, low_open=True, high_open=True)
    train = dataset.train
    of = np.asarray(train.labels)
    if of.ndim > 1:
        of = np.zeros(len(of), int) if train.owners is None else np.asarray(train.owners)
    apart = held_out(of, fraction)
    return dataset._replace(train=examples_at(train, ~apart), validation=examples_at(train, apart))
