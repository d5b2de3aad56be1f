"""The user's own arrays, checked once at the door."""

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from fedjax_ecgr.check import InputError, count
from fedjax_ecgr.data.federated import (
    Dataset,
    Examples,
    Spec,
    check_each,
    check_examples,
    check_scale,
    check_whole,
)

_BLOCK = 1024  # examples converted to float64 at a time


def arrays(
    train_inputs: ArrayLike,
    train_labels: ArrayLike,
    test_inputs: ArrayLike,
    test_labels: ArrayLike,
    *,
    num_classes: int | None = None,
    vocabulary: int | None = None,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    train_owners: ArrayLike | None = None,
    test_owners: ArrayLike | None = None,
    name: str = "arrays",
) -> Dataset:
    """Returns a `Dataset` of the given arrays.

    Args:
      train_inputs: [N, *input_shape], where input_shape is (features,) or (height, width,
        channels). uint8 stays uint8 (and is normalised inside the compiled step); any other
        numbers become float32. With a `vocabulary`, tokens [N, length].
      train_labels: [N] whole numbers from 0; or several an example, [N, length], of which those
        that are -1 are padding.
      test_inputs: [M, *input_shape], stored as the training inputs are.
      test_labels: [M] or [M, length], alike.
      num_classes: number of labels; None takes one more than the highest label.
      vocabulary: number of tokens, where the inputs are tokens from 0 to `vocabulary - 1`.
      mean: subtracted from the inputs, a scalar or one number a channel (the last axis). None
        takes, for uint8, the mean of the training inputs, per channel for images and over
        everything for features; for other inputs 0.
      std: the inputs are divided by it, alike. None takes, for uint8, the standard deviation of the
        training inputs (1 where that is 0); for other inputs 1.
      train_owners: [N], the client each example comes from: any values that sort, such as names or
        numbers. In sorted order they become clients 0, 1, …
      test_owners: [M], alike; owners without a training example get the numbers behind the others.
      name: what reports call the data.

    Returns:
      The data, as NumPy arrays.

    Raises:
      InputError: if shapes or types disagree, there is no example, a number is not finite, a label
        is not a whole number from 0 to `num_classes - 1`, or `std` is not above 0. The message
        names the first entry that is wrong.

    >>> data = arrays([[0.5, 1.0], [2.0, 0.0]], [0, 1], [[1.0, 1.0]], [1])
    >>> data.spec
    Spec(input_shape=(2,), num_classes=2, vocabulary=None, target_shape=())
    """
    read = _inputs if vocabulary is None else partial(_tokens, vocabulary)
    inputs = read("train_inputs", train_inputs), read("test_inputs", test_inputs)
    labels = _labels("train_labels", train_labels), _labels("test_labels", test_labels)
    owners = _number_owners(train_owners, test_owners)
    if num_classes is None:
        num_classes = max(int(part.max(initial=0)) for part in labels) + 1
    count("num_classes", num_classes, high=2**31 - 1, why="labels are int32")
    for i, prefix in enumerate(("train_", "test_")):
        unscaled = Examples(inputs[i], labels[i], np.zeros(()), np.ones(()), owners[i])
        check_examples(unscaled, num_classes, prefix=prefix)
    input_shape, target_shape = inputs[0].shape[1:], labels[0].shape[1:]
    for what, (first, second) in (("inputs", inputs), ("labels", labels)):
        if second.shape[1:] != first.shape[1:]:
            raise InputError(
                f"test_{what}: shape {second.shape} is not allowed, after the first axis it must "
                f"be {first.shape[1:]}, as in train_{what}"
            )
    if (
        inputs[1].dtype != inputs[0].dtype
    ):  # one scale for both: 0 to 255 beside 0 to 1 is a mistake
        raise InputError(
            f"test_inputs: {inputs[1].dtype} is not allowed, it must be {inputs[0].dtype}, "
            "as in train_inputs"
        )
    scale = _scale(inputs[0], mean, std)
    check_scale(*scale, channels=input_shape[-1])
    train, test = (
        Examples(x, y.astype(np.int32), *scale, owners=who)
        for x, y, who in zip(inputs, labels, owners, strict=True)
    )
    return Dataset(name, train, test, Spec(input_shape, num_classes, vocabulary, target_shape))


def _inputs(field: str, given: ArrayLike) -> np.ndarray:
    inputs = _array(field, given)
    if inputs.dtype == np.uint8:
        return inputs
    with np.errstate(over="ignore"):  # becomes infinite, which is reported with its position
        return inputs.astype(np.float32, copy=False)


def _tokens(vocabulary: int, field: str, given: ArrayLike) -> np.ndarray:
    count("vocabulary", vocabulary, high=2**31 - 1, why="tokens are int32")
    tokens = _array(field, given)
    check_whole(field, tokens, tokens.shape, high=vocabulary - 1)
    if tokens.ndim != 2:
        raise InputError(f"{field}: shape {tokens.shape} is not allowed, it must be (N, length)")
    return tokens.astype(np.int32)


def _labels(field: str, given: ArrayLike) -> np.ndarray:
    """Returns the labels as int64, wide enough that the check of their range sees them as given."""
    labels = _array(field, given)
    whole = (np.abs(labels) < 2**31) & (np.floor(labels) == labels)
    check_each(field, labels, whole, "a whole number that fits int32")
    return labels.astype(np.int64)


def _array(field: str, given: Any) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError:  # lists of unequal lengths
        raise InputError(f"{field}: a ragged list is not allowed, it must be an array") from None
    real = (np.integer, np.floating, np.bool)
    if not any(jax.dtypes.issubdtype(array.dtype, kind) for kind in real):
        raise InputError(f"{field}: {array.dtype} is not allowed, it must be real numbers")
    return array


def _number_owners(
    train: ArrayLike | None, test: ArrayLike | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Numbers the owners from 0, those with training examples first."""
    if train is None:
        if test is not None:
            raise InputError("train_owners: None is not allowed where test_owners are given")
        return None, None
    try:
        clients, numbered = np.unique(np.asarray(train), return_inverse=True)
        others = np.setdiff1d([] if test is None else test, clients)
    except TypeError:
        raise InputError("owners: a mix of types is not allowed, they must sort") from None
    train_numbers = numbered.astype(np.int32)
    if test is None:
        return train_numbers, None
    names = np.concatenate([clients, others])
    sorter = np.argsort(names)
    test_numbers = sorter[np.searchsorted(names, np.asarray(test), sorter=sorter)]
    return train_numbers, test_numbers.astype(np.int32)


def _scale(
    inputs: np.ndarray, mean: ArrayLike | None, std: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (mean, std) as float32, with the default in the place of None."""
    if inputs.dtype == np.uint8 and (mean is None or std is None):
        default_mean, default_std = _moments(inputs)
    else:
        default_mean, default_std = np.zeros(()), np.ones(())
    return (
        (default_mean if mean is None else _array("mean", mean)).astype(np.float32),
        (default_std if std is None else _array("std", std)).astype(np.float32),
    )


def _moments(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, per channel for images [N, H, W, C], else over everything."""
    axes = (0, 1, 2) if inputs.ndim == 4 else None
    total = squares = np.zeros(())
    for start in range(0, len(inputs), _BLOCK):  # a float64 copy of all would be 8 times the data
        block = inputs[start : start + _BLOCK].astype(np.float64)
        total = total + block.sum(axis=axes)
        squares = squares + np.square(block).sum(axis=axes)
    number = inputs.size / total.size
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - np.square(mean), 0.0))
    return mean, np.where(std == 0.0, 1.0, std)
