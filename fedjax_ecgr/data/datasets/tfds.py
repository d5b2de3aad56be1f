"""Image classification from TensorFlow Datasets, prepared beforehand: read without TensorFlow."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_ecgr.check import InputError, count, known, number
from fedjax_ecgr.data import cache, images
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset
from fedjax_ecgr.data.held_out import held_out
from fedjax_ecgr.data.tfds_folder import default_folder, find

_TESTS = ("test", "validation")


def tfds(
    *,
    data_name: str | None = None,
    data_dir: str | None = None,
    owner_feature: str | None = None,
    image_size: int | None = None,
    test_fraction: float = 0.2,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """Returns a prepared data set of images and one label each.

    `fedjax-ecgr data prepare NAME` prepares one. Images are decoded once, into a cache of the
    user's; later starts map it into memory.

    Args:
      data_name: its name, with its configuration where it has some: "mnist", "emnist/byclass".
      data_dir: where all prepared data sets are; by default TensorFlow Datasets' own folder.
      owner_feature: the feature by which examples belong to clients (`partition.natural`).
      image_size: height and width to which images are resampled; needed where they differ.
      test_fraction: share of each class held out for the test, always the same examples, in (0, 1);
        only where the data set has no test and no validation examples of its own.
      mean: subtracted from the pixels, which are 0 to 255; that of the training images by default.
      std: the pixels are divided by it, alike. `mean` 0 with `std` 255 gives inputs in [0, 1].

    Returns:
      The data, uint8; `input_shape` is (height, width, channels).

    Raises:
      InputError: if the data set is not prepared, has no such features, or an image cannot be read.

    >>> tfds()
    Traceback (most recent call last):
    fedjax_ecgr.check.InputError: data_name: None is not allowed, it must be a prepared data set
    """
    if data_name is None:
        raise InputError("data_name: None is not allowed, it must be a prepared data set")
    if image_size is not None:
        count("image_size", image_size)
    number("test_fraction", test_fraction, low=0.0, high=1.0, low_open=True, high_open=True)
    folder = find(data_name, default_folder(data_dir))
    made_of = {
        "source": "tfds",
        "owner_feature": owner_feature,
        "image_size": image_size,
        "test_fraction": test_fraction,
        "files": cache.fingerprint(path for path in folder.iterdir() if path.is_file()),
    }
    options = owner_feature, image_size, float(test_fraction)
    held: dict[str, Any] = dict(
        cache.cached(data_name, made_of, lambda: _decoded(folder, *options))
    )
    num_classes = int(held.pop("num_classes"))
    return arrays(**held, num_classes=num_classes, mean=mean, std=std, name=data_name)


def _decoded(
    folder: Path, owner_feature: str | None, image_size: int | None, test_fraction: float
) -> dict[str, np.ndarray]:
    """Returns the arguments of `arrays`."""
    builder = _open(folder)
    image, label = _features(builder)
    if owner_feature is not None:
        known("owner_feature", owner_feature, builder.info.features)
    splits = builder.info.splits
    if "train" not in splits:
        raise InputError(f"{folder}: no training examples (splits: {', '.join(splits)})")
    test = next((split for split in _TESTS if split in splits), None)
    parts = {
        part: _read(builder, split, (image, label, owner_feature), image_size)
        for part, split in (("train", "train"), ("test", test))
        if split is not None
    }
    if test is None:
        whole = parts.pop("train")
        apart = held_out(whole["labels"], test_fraction)
        for part, rows in (("train", ~apart), ("test", apart)):
            parts[part] = {name: values[rows] for name, values in whole.items()}
    classes = np.array(builder.info.features[label].num_classes)
    named = {f"{part}_{name}": x for part, held in parts.items() for name, x in held.items()}
    return {"num_classes": classes, **named}


def _open(folder: Path) -> Any:
    """Returns the builder of a folder, which needs none of the code that prepared it."""
    import tensorflow_datasets as tfds  # only who reads them waits for the import

    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # a damaged folder may raise anything
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: cannot be read as a prepared data set: {reason}") from None


def _features(builder: Any) -> tuple[str, str]:
    """Returns the names of the image and the label."""
    from tensorflow_datasets.core import features

    found = {
        kind: [name for name, feature in builder.info.features.items() if isinstance(feature, kind)]
        for kind in (features.Image, features.ClassLabel)
    }
    supervised = builder.info.supervised_keys or ()
    chosen = [
        next((name for name in names if name in supervised), names[0] if len(names) == 1 else None)
        for names in found.values()
    ]
    if None in chosen:
        there = ", ".join(
            f"{name} ({type(f).__name__})" for name, f in builder.info.features.items()
        )
        raise InputError(
            f"{builder.info.full_name}: no image classification, which is one image and one label "
            f"an example (features: {there})"
        )
    return str(chosen[0]), str(chosen[1])


def _read(
    builder: Any, split: str, names: tuple[str, str, str | None], image_size: int | None
) -> dict[str, np.ndarray]:
    """Returns inputs [N, height, width, channels], labels [N] and, where asked for, owners [N]."""
    import tensorflow_datasets as tfds

    image, label, owner = names
    channels = builder.info.features[image].shape[-1] or 3
    if channels not in images.MODES:
        raise InputError(
            f"image: {image!r}, of {channels} channels, is not allowed, it must be grey or colour"
        )
    decoders = {image: tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
    except Exception as error:  # a damaged folder may raise anything
        reason = " ".join(str(error).split())
        raise InputError(f"{builder.data_dir}: {split}: cannot be read: {reason}") from None
    labels, owners = np.empty(len(source), np.int64), list[Any]()

    def encoded() -> Iterator[tuple[str, bytes]]:
        for row in range(len(source)):
            example = source[row]
            if example[label] is None or example[image] is None:  # so it says of a cut file
                raise InputError(f"{builder.data_dir}: {split}[{row}]: cannot be read")
            labels[row] = example[label]
            if owner is not None:
                owners.append(_plain(example[owner]))
            yield f"{split}[{row}]", bytes(example[image])

    inputs = images.decoded(
        encoded(), len(source), channels=channels, size=image_size, convert=True
    )
    return {"inputs": inputs, "labels": labels, **({"owners": np.array(owners)} if owner else {})}


def _plain(value: Any) -> str | int | float:
    return value.decode() if isinstance(value, bytes) else np.asarray(value).item()
