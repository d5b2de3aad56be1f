"""Folders of IDX files: MNIST, Fashion-MNIST, KMNIST and EMNIST as they are published.

The format (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"): two zero bytes,
one for the type (8: uint8), one for the number of axes, the axes' lengths as big-endian 32-bit
numbers, then the numbers themselves, row by row.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError, known
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset

_UINT8 = 8
_PARTS = {"train": ("train",), "test": ("t10k", "test")}  # as MNIST's and as EMNIST's are called
_KINDS = {"images": 3, "labels": 1}  # and how many axes they have


def idx(
    *,
    data_path: str | None = None,
    data_name: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """Returns the images and labels of a folder of IDX files, gzipped or not.

    The four files are those of MNIST, Fashion-MNIST and KMNIST, `train-images-idx3-ubyte`,
    `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, or those of
    EMNIST, `emnist-balanced-train-images-idx3-ubyte` … `emnist-balanced-test-labels-idx1-ubyte`.
    Images are as they are stored (EMNIST's are transposed, there and here); labels are too, but for
    those of `emnist-letters`, which begin at 1 in the files and at 0 here.

    Args:
      data_path: the folder.
      data_name: what comes before `-train-images…` in the files' names ("emnist-balanced"), where
        the folder holds several sets.
      mean: subtracted from the pixels, which are 0 to 255; that of the training images by default.
      std: the pixels are divided by it, alike. `mean` 0 with `std` 255 gives inputs in [0, 1].

    Returns:
      The data, uint8; `input_shape` is (height, width, 1).

    Raises:
      InputError: if the folder does not hold such files, or one of them is not what its name says.

    >>> idx(data_path="nowhere")
    Traceback (most recent call last):
    fedjax_ecgr.check.InputError: data_path: 'nowhere' is not a folder
    """
    folder = check.folder("data_path", data_path, "a folder of IDX files")
    prefix = _prefix(folder, data_name)
    read = {
        (part, kind): _read(_file(folder, prefix, part, kind), _KINDS[kind])
        for part in _PARTS
        for kind in _KINDS
    }
    for part in _PARTS:
        num_images, num_labels = (len(read[part, kind]) for kind in _KINDS)
        if num_images != num_labels:
            found = f"{num_images} {part} images, {num_labels} labels"
            raise InputError(f"data_path: {data_path!r} has {found}")
    first_label = int(prefix == "emnist-letters-")
    inputs = [read[part, "images"][..., np.newaxis] for part in _PARTS]
    labels = [read[part, "labels"].astype(np.int64) - first_label for part in _PARTS]
    name = prefix.removesuffix("-") or folder.resolve().name
    return arrays(inputs[0], labels[0], inputs[1], labels[1], mean=mean, std=std, name=name)


def _names(part: str, kind: str) -> list[str]:
    """Returns the names that a file may have, in the order in which they are looked for."""
    axes = _KINDS[kind]
    return [
        f"{word}-{kind}{dot}idx{axes}-ubyte{packed}"
        for word in _PARTS[part]
        for dot in ("-", ".")
        for packed in ("", ".gz")
    ]


def _prefix(folder: Path, data_name: str | None) -> str:
    """Returns what the names of the set's files begin with."""
    ends = tuple(_names("train", "images"))
    found = {
        path.name[: -len(end)]
        for path in folder.iterdir()
        for end in ends
        if path.name.endswith(end)
    }
    if not found:
        raise InputError(f"data_path: {str(folder)!r} holds no {ends[0]}[.gz]")
    sets = {prefix.removesuffix("-"): prefix for prefix in found}
    if data_name is not None:
        return known("data_name", data_name, sets)
    if len(sets) > 1:
        several = ", ".join(sorted(sets))
        raise InputError(f"data_name: None is not allowed, the folder holds several: {several}")
    return found.pop()


def _file(folder: Path, prefix: str, part: str, kind: str) -> Path:
    names = [prefix + name for name in _names(part, kind)]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"data_path: {str(folder)!r} holds no {names[0]}[.gz]")


def _read(path: Path, axes: int) -> np.ndarray:
    """Reads one file: uint8, of so many axes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic, head = file.read(4), file.read(4 * axes)
            if magic != bytes((0, 0, _UINT8, axes)) or len(head) != 4 * axes:
                raise InputError(f"{path}: not an IDX file of uint8 with {axes} axes")
            shape = struct.unpack(f">{axes}I", head)
            content = file.read()  # and not as many as the head says, which may be anything
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if len(content) != math.prod(shape):
        said = " × ".join(map(str, shape))
        raise InputError(
            f"{path}: {'more' if len(content) > math.prod(shape) else 'fewer'} numbers "
            f"than the {said} that its head says"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
