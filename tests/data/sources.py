"""Small data on disk, in the formats that sources read, written without their help."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np


def made(name: str, folder: Path) -> dict[str, Any]:
    """Options with which a source of `DATASETS` has something to read, made in `folder`."""
    return MADE[name](folder) if name in MADE else {}


def images(size, shape=(5, 4, 1), classes=3, seed=0):
    """Images of random pixels, uint8, and labels, of which each class has some."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size, *shape), np.uint8), np.arange(size) % classes


def idx_bytes(values):
    values = np.asarray(values, np.uint8)
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.tobytes()


def write_idx(
    folder, train, test, *, packed=False, before="", words=("train", "t10k"), dot="-", first=0
):
    """Writes the four files: `train` and `test` are (images [N, H, W, 1], labels [N])."""
    for word, (inputs, labels) in zip(words, (train, test), strict=True):
        for kind, values in (("images", inputs[..., 0]), ("labels", labels + first)):
            path = folder / f"{before}{word}-{kind}{dot}idx{values.ndim}-ubyte"
            if packed:
                path = path.with_name(path.name + ".gz")
            path.write_bytes(gzip.compress(idx_bytes(values)) if packed else idx_bytes(values))


def _idx(folder):
    write_idx(folder, images(12), images(6, seed=1))
    return {"data_path": str(folder)}


def _npz(folder):
    (inputs, labels), (test_inputs, test_labels) = images(12), images(6, seed=1)
    path = folder / "mine.npz"
    np.savez(path, train_inputs=inputs, train_labels=labels,
             test_inputs=test_inputs, test_labels=test_labels)  # fmt: skip
    return {"data_path": str(path)}


MADE = {"idx": _idx, "npz": _npz}
