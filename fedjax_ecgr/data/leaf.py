"""LEAF's JSON files (Caldas et al., arXiv 1812.01097): examples by user.

    DIR/train/*.json    {"users": […], "user_data": {user: {"x": […], "y": […]}}, …}
    DIR/test/*.json

`DIR` is what LEAF's `preprocess.sh` leaves as `data/NAME/data`. Where the split is by sample
(`-t sample`), users have examples in both parts; where it is by user, in one.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import cache

Convert = Callable[[Sequence[Any], Sequence[Any]], tuple[np.ndarray, np.ndarray]]
"""`(x, y) -> (inputs, labels)`; raises `ValueError` for what they cannot be."""

PARTS = ("train", "test")


def read(
    name: str, data_path: str | None, options: Mapping[str, Any], convert: Convert
) -> dict[str, Any]:
    """Returns the inputs, labels and owners of both parts, as `arrays` takes them.

    They are read once, into a cache of the user's.

    Args:
      name: of the data set.
      data_path: the folder that holds `train` and `test`.
      options: what else tells these arrays from others.
      convert: makes arrays of a user's examples.

    Raises:
      InputError: if a folder or a file is not what it should be; it names the file and the user.
    """
    if data_path is None:
        raise InputError("data_path: None is not allowed, it must be a folder of LEAF's files")
    files = {part: _files(Path(data_path), part) for part in PARTS}
    made_of = {
        "source": name,
        **options,
        "files": cache.fingerprint(path for part in PARTS for path in files[part]),
    }
    return dict(cache.cached(name, made_of, lambda: _decoded(files, convert)))


def _files(folder: Path, part: str) -> list[Path]:
    found = sorted((folder / part).glob("*.json"))
    if not found:
        raise InputError(f"data_path: {str(folder)!r} holds no {part}/*.json, as LEAF writes them")
    return found


def _decoded(files: Mapping[str, Sequence[Path]], convert: Convert) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, paths in files.items():
        inputs, labels, owners = [], [], []
        for user, x, y in (found for path in paths for found in _users(path, convert)):
            inputs.append(x)
            labels.append(y)
            owners += [user] * len(y)
        if not owners:
            raise InputError(f"{paths[0].parent}: no examples")
        arrays[f"{part}_inputs"] = np.concatenate(inputs)
        arrays[f"{part}_labels"] = np.concatenate(labels)
        arrays[f"{part}_owners"] = np.array(owners)
    return arrays


def _users(path: Path, convert: Convert) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields each user of a file who has examples, with inputs and labels."""
    try:
        users = json.loads(path.read_bytes())["user_data"].items()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not a file of LEAF's, JSON with 'user_data' by user") from None
    for user, held in users:
        try:
            x, y = held["x"], held["y"]
            if len(x) != len(y):
                raise ValueError(f"{len(x)} inputs, {len(y)} labels")
            if x:
                yield user, *convert(x, y)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise InputError(f"{path}: user {user!r}: {reason}") from None
