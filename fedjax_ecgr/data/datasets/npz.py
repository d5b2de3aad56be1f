"""The user's own arrays in an .npz file. Nothing in it is ever executed."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset

_NEEDED = ("train_inputs", "train_labels", "test_inputs", "test_labels")
_ALLOWED = (*_NEEDED, "num_classes", "vocabulary", "mean", "std", "train_owners", "test_owners")


def npz(*, data_path: str | None = None) -> Dataset:
    """Returns the data of an .npz file, as `numpy.savez` writes it.

    The file holds the arrays train_inputs, train_labels, test_inputs and test_labels and, if need
    be, num_classes, vocabulary, mean, std, train_owners and test_owners, as `arrays` takes them.

    Args:
      data_path: the file.

    Returns:
      The data, named after the file.

    Raises:
      InputError: if the file cannot be read, or holds other arrays or none that fit together.

    >>> npz(data_path="nowhere.npz")
    Traceback (most recent call last):
    fedjax_ecgr.check.InputError: data_path: 'nowhere.npz' cannot be read: No such file or directory
    """
    if data_path is None:
        raise InputError("data_path: None is not allowed, it must be an .npz file")
    path = Path(data_path)
    try:
        held = _read(path)
    # a RuntimeError: of a file that is encrypted, or packed in a way that is not known
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"data_path: {data_path!r} cannot be read: {reason}") from None
    check.options(path.name, held, _ALLOWED)
    for name in _NEEDED:
        if name not in held:
            raise InputError(f"{path.name}: the array {name!r} is missing")
    for name in held.keys() & {"num_classes", "vocabulary"}:
        held[name] = held[name].tolist()  # the number in the array
    try:
        return arrays(**held, name=path.stem)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    """Returns all arrays by name; raises `ValueError` for a file that is no such archive."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("not an .npz archive")
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as content:
                    _check_size(member, content)
    with np.load(path, allow_pickle=False) as arrays_:
        return dict(arrays_)


def _check_size(member: zipfile.ZipInfo, content: IO[bytes]) -> None:
    """Raises `ValueError` unless as much is there as a head says, which NumPy would ask for."""
    version = np.lib.format.read_magic(content)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"{member.filename}: format {version} is not known")
    shape, _, dtype = read(content)
    if dtype.hasobject:
        raise ValueError(f"{member.filename}: Python objects are not allowed, only numbers")
    said, there = math.prod(shape) * dtype.itemsize, member.file_size - content.tell()
    if said != there:
        raise ValueError(f"{member.filename}: its head says {said} bytes, there are {there}")
