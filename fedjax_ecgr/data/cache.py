"""Decoded examples, kept on disk: arrays that the second start maps into memory.

    <user's cache>/fedjax_ecgr/data/<name>-<key>/
      manifest.json    what it was made of, and each array's checksum
      <array>.npy

A folder appears under its name when all of it is written, and is checked when it is loaded; one
that was damaged, or was made by another version of this file, is made again.
"""

import contextlib
import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from fedjax_ecgr.files import whole_folder, write
from fedjax_ecgr.programs import user_cache

_VERSION = 1
_BLOCK = 2**24
Arrays = Mapping[str, np.ndarray]


def cached(name: str, made_of: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """Returns arrays from the cache, memory-mapped; makes and keeps them where they are not there.

    Args:
      name: what the folder is called.
      made_of: plain values that tell these arrays from all others, see `fingerprint`.
      make: returns the arrays, by name.

    Raises:
      OSError: if there is no room for them; it names the file, and nothing stays behind.
    """
    described = json.dumps({"version": _VERSION, **made_of}, sort_keys=True)
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    folder = user_cache() / "data" / f"{name.replace('/', '-')}-{key}"
    found = _load(folder)
    if found is not None:
        return found
    arrays = make()
    found = _load(folder)  # another process may have been faster
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(FileExistsError):
            _save(folder, arrays, described)
        found = _load(folder)
    return arrays if found is None else found


def fingerprint(files: Iterable[Path]) -> list[Any]:
    """Returns names, sizes and times of files: what changes if they do."""
    found = [(str(path), path.stat()) for path in sorted(files)]
    return [[path, stat.st_size, stat.st_mtime_ns] for path, stat in found]


def _save(folder: Path, arrays: Arrays, described: str) -> None:
    with whole_folder(folder) as hidden:
        checksums = {}
        for name, array in arrays.items():
            write(hidden / f"{name}.npy", partial(_save_array, np.asarray(array, order="C")))
            checksums[name] = _checksum(np.asarray(array, order="C"))
        manifest = {"made_of": json.loads(described), "checksums": checksums}
        text = json.dumps(manifest, indent=2).encode()
        write(hidden / "manifest.json", lambda file: file.write(text))


def _load(folder: Path) -> Arrays | None:
    """Returns the arrays of a folder; None if it is not there, or not as it was written."""
    try:
        checksums = json.loads((folder / "manifest.json").read_text())["checksums"]
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in checksums
        }
        sound = all(_checksum(arrays[name]) == checksums[name] for name in checksums)
    except Exception:  # of a damaged file NumPy may raise anything
        return None
    return arrays if sound else None


def _save_array(array: np.ndarray, file: BinaryIO) -> None:
    # to a file proper NumPy writes past Python, and does not know why that fails
    np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


def _checksum(array: np.ndarray) -> int:
    values, checksum = array.reshape(-1).view(np.uint8), 0
    for start in range(0, len(values), _BLOCK):
        checksum = zlib.crc32(values[start : start + _BLOCK].data, checksum)
    return checksum
