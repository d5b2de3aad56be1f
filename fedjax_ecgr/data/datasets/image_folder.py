"""Folders of images, one a class: JPEG or PNG, TinyImageNet's layout included."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fedjax_ecgr.check import InputError, count, folder, number
from fedjax_ecgr.data import cache, images
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset
from fedjax_ecgr.data.held_out import held_out

_ENDINGS = (".jpg", ".jpeg", ".png")
_TESTS = ("test", "val", "validation")
_ANNOTATIONS = "val_annotations.txt"
Listed = list[tuple[Path, str]]


def image_folder(
    *,
    data_path: str | None = None,
    image_size: int | None = None,
    grey: bool = False,
    convert: bool = False,
    test_fraction: float = 0.2,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """Returns the images of a folder, labelled by the folders that they are in.

    Images are `train/CLASS/*.jpg` and `test/CLASS/*.jpg` (or `val`), or `CLASS/*.jpg` where a part
    is to be held out. TinyImageNet is read as it is published: `train/CLASS/images/*.JPEG`, and
    `val/images/*.JPEG` with their classes in `val/val_annotations.txt`. Classes are numbered in
    the order of their names. Images are decoded once, into a cache of the user's.

    Args:
      data_path: the folder.
      image_size: height and width to which images are resampled; needed where they differ.
      grey: whether images are grey, of one channel; colour by default.
      convert: whether grey images among colour ones (TinyImageNet has some), or the other way
        round, are converted; an error by default.
      test_fraction: share of each class held out for the test, always the same images, in (0, 1);
        only where the folder has no test images of its own.
      mean: subtracted from the pixels, which are 0 to 255; that of the training images by default.
      std: the pixels are divided by it, alike. `mean` 0 with `std` 255 gives inputs in [0, 1].

    Returns:
      The data, uint8; `input_shape` is (height, width, 3), or 1 for grey.

    Raises:
      InputError: one line that names every image that cannot be read, is of another size or other
        channels, or is wrongly placed, and every class that is empty.

    >>> image_folder(data_path="nowhere")
    Traceback (most recent call last):
    fedjax_ecgr.check.InputError: data_path: 'nowhere' is not a folder
    """
    root = folder("data_path", data_path, "a folder of images")
    if image_size is not None:
        count("image_size", image_size)
    number("test_fraction", test_fraction, low=0.0, high=1.0, low_open=True, high_open=True)
    parts = _listed(root)
    read = (path for part in parts.values() for path, _ in part)
    channels = 1 if grey else 3
    made_of = {
        "source": "image_folder",
        "options": [channels, image_size, convert, test_fraction],
        "files": cache.fingerprint([*read, *root.glob(f"*/{_ANNOTATIONS}")]),
    }
    decode = partial(images.decoded, channels=channels, size=image_size, convert=convert)
    name = root.resolve().name
    held = cache.cached(name, made_of, lambda: _decoded(parts, float(test_fraction), decode))
    names = ("train_inputs", "train_labels", "test_inputs", "test_labels")
    return arrays(*(held[name] for name in names), mean=mean, std=std, name=name)


def _listed(root: Path) -> dict[str, Listed]:
    """Returns the images of each part with their classes; of `train` alone where there is one."""
    wrong: list[tuple[str, str]] = []
    train = root / "train"
    if not train.is_dir():
        parts = {"train": _classes(root, wrong)}
    else:
        parts = {"train": _classes(train, wrong)}
        named = [root / name for name in _TESTS if (root / name).is_dir()]
        annotated = next((test for test in named if (test / _ANNOTATIONS).is_file()), None)
        labelled = next((test for test in named if _has_classes(test)), None)
        if annotated is not None:
            parts["test"] = _annotated(annotated, wrong)
        elif labelled is not None:
            parts["test"] = _classes(labelled, wrong)
    known = {label for _, label in parts["train"]}
    for path, label in parts.get("test", ()):
        if label not in known:
            wrong.append((str(path), f"class {label!r} has no training image"))
    images.refuse("place", wrong)
    for part, files in parts.items():
        if not files:
            raise InputError(f"data_path: {str(root)!r} holds no {part} images")
    return parts


def _has_classes(folder: Path) -> bool:
    """Returns whether there is a class in a folder; TinyImageNet's test images are of none."""
    return any(path.is_dir() and path.name != "images" for path in folder.iterdir())


def _classes(folder: Path, wrong: list[tuple[str, str]]) -> Listed:
    """Returns the images of the classes that are folders in `folder`."""
    found: Listed = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            if path.suffix.lower() in _ENDINGS:
                wrong.append((str(path), "wrongly placed, in no class's folder"))
            continue
        inner = path / "images" if (path / "images").is_dir() else path
        files = [(file, path.name) for file in sorted(inner.iterdir()) if _is_image(file, wrong)]
        if not files:
            wrong.append((str(path), "a class without an image"))
        found += files
    return found


def _annotated(folder: Path, wrong: list[tuple[str, str]]) -> Listed:
    """Returns TinyImageNet's validation images, whose classes are in a file."""
    found: Listed = []
    text = (folder / _ANNOTATIONS).read_text(encoding="utf-8", errors="replace")
    for row, line in enumerate(text.splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) < 2:
            wrong.append((f"{folder / _ANNOTATIONS}:{row}", "not a file and its class"))
            continue
        path = folder / "images" / fields[0]
        if path.is_file():
            found.append((path, fields[1]))
        else:
            wrong.append((str(path), "missing"))
    return found


def _is_image(path: Path, wrong: list[tuple[str, str]]) -> bool:
    if path.is_dir():
        wrong.append((str(path), "a folder where images should be"))
    return path.is_file() and path.suffix.lower() in _ENDINGS


def _decoded(
    parts: dict[str, Listed], test_fraction: float, decode: Callable[..., np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the arguments of `arrays`; all parts at once, so that all errors are."""
    files = [entry for part in parts.values() for entry in part]
    classes = sorted({label for _, label in files})
    pixels = decode(((str(path), path) for path, _ in files), len(files))
    labels = np.searchsorted(np.array(classes), np.array([label for _, label in files]))
    if "test" in parts:
        apart = np.arange(len(files)) >= len(parts["train"])
    else:
        apart = held_out(labels, test_fraction)
    return {
        "train_inputs": pixels[~apart],
        "train_labels": labels[~apart],
        "test_inputs": pixels[apart],
        "test_labels": labels[apart],
    }
