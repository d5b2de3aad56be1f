"""FEMNIST of LEAF (Caldas et al., arXiv 1812.01097): handwritten characters, by writer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_ecgr.data import leaf
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset

_SIDE, _CLASSES = 28, 62


def femnist(
    *,
    data_path: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """Returns FEMNIST, its writers the owners (`partition.natural`), from LEAF's JSON files.

    Labels 0 to 9 are digits, 10 to 35 capital letters and 36 to 61 small ones. LEAF stores a pixel
    as a fraction of 255, with paper at 1; kept is the whole number.

    Args:
      data_path: the folder that holds `train/*.json` and `test/*.json`.
      mean: subtracted from the pixels, which are 0 to 255; that of the training images by default.
      std: the pixels are divided by it, alike. `mean` 0 with `std` 255 gives LEAF's own inputs.

    Returns:
      The data, uint8; `input_shape` is (28, 28, 1). Writers are numbered in the order of their
      names, those without training examples behind the others.

    Raises:
      InputError: if a folder or a file is not what it should be; it names the file and the user.

    >>> femnist(data_path="nowhere")
    Traceback (most recent call last):
    fedjax_ecgr.check.InputError: data_path: 'nowhere' holds no train/*.json, as LEAF writes them
    """
    held = leaf.read("femnist", data_path, {}, _convert)
    return arrays(**held, num_classes=_CLASSES, mean=mean, std=std, name="femnist")


def _convert(x: Sequence[Any], y: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = np.asarray(x, float) * 255, np.asarray(y)
    if pixels.ndim != 2 or pixels.shape[1] != _SIDE**2:
        raise ValueError(f"images of shape {pixels.shape[1:]}, they must be of {_SIDE**2} pixels")
    inputs = np.rint(np.clip(pixels, 0, 255))
    if not np.allclose(inputs, pixels, rtol=0, atol=1e-3):
        raise ValueError("a pixel that is no whole number of 255ths from 0 to 1")
    if labels.ndim != 1 or not np.isin(labels, np.arange(_CLASSES)).all():
        raise ValueError(f"a label that is no whole number from 0 to {_CLASSES - 1}")
    return inputs.astype(np.uint8).reshape(-1, _SIDE, _SIDE, 1), labels
