"""Small data on disk, in the formats that sources read, written without their help."""

import gzip
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets
from PIL import Image
from tensorflow_datasets.core import features

from fedjax_ecgr.data.datasets.shakespeare import CHARACTERS


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


def encoded(pixels, form="PNG"):
    """What an image file holds."""
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, form)
    return file.getvalue()


def write_images(folder, inputs, labels, *, form="PNG", inner=""):
    """Writes CLASS[/inner]/N.png, with classes called a, b, …"""
    for row, (pixels, label) in enumerate(zip(inputs, labels, strict=True)):
        path = folder / "abcdefgh"[label] / inner / f"{row:04}.{form.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels, form))


def prepare_tfds(folder, splits, *, name="small", image=None, others=None, supervised=None):
    """Prepares array records as TensorFlow Datasets does; returns its folder.

    Args:
      folder: of all prepared data sets.
      splits: for each split its (inputs, labels), or as (inputs, labels, {feature: values}).
      name: of the data set.
      image: feature of the images, by default of their shape.
      others: further features, by name.
      supervised: the supervised keys; ("image", "label") by default.
    """
    tfds = tensorflow_datasets
    inputs, labels, *_ = splits["train"]
    kinds = {
        "image": image or features.Image(shape=inputs.shape[1:]),
        "label": features.ClassLabel(num_classes=int(labels.max()) + 1),
        **(others or {}),
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(kinds),
                supervised_keys=supervised or ("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(*held) for split, held in splits.items()}

        def _generate_examples(self, inputs, labels, more=()):
            for row, (pixels, label) in enumerate(zip(inputs, labels, strict=True)):
                content = pixels if isinstance(pixels, bytes) else encoded(pixels)
                own = {feature: more[feature][row] for feature in more}
                yield row, {"image": io.BytesIO(content), "label": int(label), **own}

    Builder.name = name
    builder = Builder(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _tfds(folder):
    prepare_tfds(folder, {"train": images(12), "test": images(6, seed=1)})
    return {"data_name": "small", "data_dir": str(folder)}


def _image_folder(folder):
    shape = (5, 4, 3)
    write_images(folder / "train", *images(12, shape))
    write_images(folder / "test", *images(6, shape, seed=1))
    return {"data_path": str(folder)}


def write_leaf(folder, parts):
    """Writes LEAF's files: `parts` is {"train": {user: (x, y)}, …}, two users a file."""
    for part, users in parts.items():
        (folder / part).mkdir(parents=True)
        names = list(users)
        for start in range(0, len(names), 2):
            held = {name: users[name] for name in names[start : start + 2]}
            content = {
                "users": list(held),
                "num_samples": [len(y) for _, y in held.values()],
                "user_data": {name: {"x": x, "y": y} for name, (x, y) in held.items()},
            }
            path = folder / part / f"all_data_{start}_niid_0_keep_0_{part}_9.json"
            path.write_text(json.dumps(content))


def writer(labels, seed=0):
    """A writer of FEMNIST: pixels as LEAF writes them, fractions of 255."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 784))
    return (pixels / 255).tolist(), list(labels)


def _femnist(folder):
    users = {"f2": writer(range(30)), "f0": writer(range(30, 62)), "f1": ([], [])}
    write_leaf(folder, {"train": users, "test": {"f0": writer(range(5))}})
    return {"data_path": str(folder)}


def _shakespeare(folder):
    text = 2 * CHARACTERS
    roles = {
        role: ([text[at : at + 80] for at in starts], [text[at + 80] for at in starts])
        for role, starts in (("ROMEO", range(30)), ("HAMLET", range(30, 79)))
    }
    write_leaf(folder, {"train": roles, "test": roles})
    return {"data_path": str(folder)}


MADE = {
    "femnist": _femnist,
    "idx": _idx,
    "image_folder": _image_folder,
    "npz": _npz,
    "shakespeare": _shakespeare,
    "tfds": _tfds,
}
