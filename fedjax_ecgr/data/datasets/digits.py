"""Real handwritten digits, small enough to come with scikit-learn: no download.

Source: the test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin and
Kaynak, 1998), as `sklearn.datasets.load_digits` gives it.
"""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np

from fedjax_ecgr.check import number
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset
from fedjax_ecgr.data.held_out import held_out

_FILE = "sklearn/datasets/data/digits.csv.gz"


def digits(*, test_fraction: float = 0.2) -> Dataset:
    """Returns the 1,797 digits, 8×8 grey images of ten classes, uint8 with values 0 to 16.

    The split into training and test examples is fixed: of each class the same fraction, drawn once
    and for all. Mean and standard deviation are those of the training images.

    Args:
      test_fraction: share of each class that is held out, in (0, 1); at least one example of each
        class stays on either side.

    Returns:
      The data; `input_shape` is (8, 8, 1).

    Raises:
      InputError: if `test_fraction` is not in (0, 1).

    >>> data = digits()
    >>> data.train.inputs.shape, data.test.inputs.shape
    ((1438, 8, 8, 1), (359, 8, 8, 1))
    """
    number("test_fraction", test_fraction, low=0.0, high=1.0, low_open=True, high_open=True)
    table = _table()
    images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1), table[:, -1]
    test = held_out(labels, float(test_fraction))
    return arrays(
        images[~test], labels[~test], images[test], labels[test], num_classes=10, name="digits"
    )


def _table() -> np.ndarray:
    """Returns a digit a row, 64 pixels and the label: [1797, 65] int64.

    The file is scikit-learn's, read without it: to import it takes a second.
    """
    with suppress(PackageNotFoundError, FileNotFoundError):
        path = distribution("scikit-learn").locate_file(_FILE)
        return np.loadtxt(str(path), np.int64, delimiter=",")
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True)).astype(np.int64)
