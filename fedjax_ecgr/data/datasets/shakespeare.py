"""Shakespeare of LEAF (Caldas et al., arXiv 1812.01097): the next character, by role."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import leaf
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset

CHARACTERS = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
"""The 80 characters of the plays; a token and a label is a place among them."""

_LENGTH = 80


def shakespeare(*, data_path: str | None = None, every_position: bool = True) -> Dataset:
    """Returns lines of plays, the roles their owners (`partition.natural`), from LEAF's JSON files.

    An example is 80 characters; LEAF's label is the one that follows. By default every position is
    labelled with the character behind it, which says the same and more.

    Args:
      data_path: the folder that holds `train/*.json` and `test/*.json`.
      every_position: whether each position has a label, as in FedJAX and TensorFlow Federated, or
        only the last, as in LEAF's own runs.

    Returns:
      The data, int32 tokens [N, 80], labels [N, 80] or [N]; vocabulary and classes are 80. Roles
      are numbered in the order of their names, those without training examples behind the others.

    Raises:
      InputError: if a folder or a file is not what it should be; it names the file and the role.

    >>> shakespeare(data_path="nowhere")
    Traceback (most recent call last):
    fedjax_ecgr.check.InputError: data_path: 'nowhere' holds no train/*.json, as LEAF writes them
    """
    if not isinstance(every_position, bool):
        raise InputError(f"every_position: {every_position!r} is not allowed, it must be a bool")
    options = {"every_position": every_position}
    held = leaf.read("shakespeare", data_path, options, partial(_convert, every_position))
    size = len(CHARACTERS)
    return arrays(**held, num_classes=size, vocabulary=size, name="shakespeare")


def _convert(
    every_position: bool, x: Sequence[Any], y: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    for line, after in zip(x, y, strict=True):
        if (len(line), len(after)) != (_LENGTH, 1):
            raise ValueError(
                f"{len(line)} characters and {len(after)} behind, it must be {_LENGTH} and 1"
            )
    text = np.array([_tokens(line + after) for line, after in zip(x, y, strict=True)], np.int32)
    return text[:, :-1], text[:, 1:] if every_position else text[:, -1]


def _tokens(text: str) -> list[int]:
    unknown = sorted(set(text) - set(CHARACTERS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of the {len(CHARACTERS)} characters")
    return [CHARACTERS.index(character) for character in text]
