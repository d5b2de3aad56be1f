"""Prepared data sets: features and layouts of the catalogue's, small, read without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core import features

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import partition
from fedjax_ecgr.data.datasets import tfds
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.data.prepare import prepare
from tests.data.sources import encoded, images, prepare_tfds

GREY, COLOUR = (5, 4, 1), (5, 4, 3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fedjax_ecgr" / "data"


def in_order(inputs, labels):
    """Images with their labels, sorted: preparing shuffles them."""
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(inputs, labels, strict=True)
    )


@pytest.mark.parametrize(
    ("shape", "others", "test"),
    [
        (GREY, {}, "test"),  # mnist, emnist, fashion_mnist
        (COLOUR, {"id": features.Text()}, "test"),  # cifar10
        (COLOUR, {}, "validation"),  # imagenet's
    ],
    ids=["grey", "colour with an id", "validation"],
)
def test_examples_are_those_that_were_prepared(tmp_path, shape, others, test):
    splits = {"train": images(20, shape), test: images(7, shape, seed=1)}
    more = {name: [f"n{row}" for row in range(20)] for name in others}
    prepare_tfds(tmp_path, {k: (*held, more) for k, held in splits.items()}, others=others)
    data = tfds(data_name="small", data_dir=str(tmp_path))
    assert in_order(data.train.inputs, data.train.labels) == in_order(*splits["train"])
    assert in_order(data.test.inputs, data.test.labels) == in_order(*splits[test])
    assert data.spec == Spec(shape, 3)
    assert data.name == "small"
    mean = splits["train"][0].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(data.train.mean, mean, rtol=1e-6)


def test_more_splits_than_two_and_more_labels_than_one(tmp_path):
    """As svhn_cropped has `extra`, and cifar100 a coarse label."""
    coarse = {"coarse_label": features.ClassLabel(num_classes=2)}
    splits = {
        split: (*images(9, COLOUR, seed=seed), {"coarse_label": [0] * 9})
        for seed, split in enumerate(("train", "test", "extra"))
    }
    prepare_tfds(tmp_path, splits, others=coarse)
    data = tfds(data_name="small", data_dir=str(tmp_path))
    assert in_order(data.train.inputs, data.train.labels) == in_order(*splits["train"][:2])
    assert data.spec.num_classes == 3


def test_without_a_test_split_the_same_share_of_each_class_is_held_out(tmp_path):
    prepare_tfds(tmp_path, {"train": images(30)})
    data = tfds(data_name="small", data_dir=str(tmp_path), test_fraction=0.3)
    assert np.bincount(data.test.labels).tolist() == [3, 3, 3]
    assert np.bincount(data.train.labels).tolist() == [7, 7, 7]
    both = [
        np.concatenate([getattr(p, f) for p in (data.train, data.test)])
        for f in ("inputs", "labels")
    ]
    assert in_order(*both) == in_order(*images(30))


def test_a_feature_says_who_owns_an_example(tmp_path):
    owners = [f"writer {row % 4}" for row in range(12)]
    inputs, _ = images(12)
    labels = np.arange(12) % 4 % 3  # so that the owner can be told from the image
    prepare_tfds(
        tmp_path,
        {
            "train": (inputs, labels, {"writer": owners}),
            "test": (inputs, labels, {"writer": owners}),
        },
        others={"writer": features.Text()},
    )
    data = tfds(data_name="small", data_dir=str(tmp_path), owner_feature="writer")
    found = {
        image.tobytes(): owner
        for image, owner in zip(data.train.inputs, data.train.owners, strict=True)
    }
    assert [found[image.tobytes()] for image in inputs] == [row % 4 for row in range(12)]
    assert partition.natural(data.train).sizes.tolist() == [3, 3, 3, 3]


def test_images_of_several_sizes_are_resampled_where_asked_for(tmp_path):
    content = [encoded(np.full((size, size, 3), size, np.uint8)) for size in (8, 6)]
    held = np.array(content, object), np.array([0, 1])
    image = features.Image(shape=(None, None, 3))
    prepare_tfds(tmp_path, {"train": held, "test": held}, image=image)
    with pytest.raises(InputError, match=r"1 image not allowed: .* where the first is") as caught:
        tfds(data_name="small", data_dir=str(tmp_path))
    assert "see image_size" in str(caught.value)
    data = tfds(data_name="small", data_dir=str(tmp_path), image_size=4)
    assert data.spec.input_shape == (4, 4, 3)
    assert sorted(np.unique(data.train.inputs).tolist()) == [6, 8]


def test_the_second_start_reads_the_cache(tmp_path, cache, monkeypatch):
    prepare_tfds(tmp_path, {"train": images(12), "test": images(6, seed=1)})
    first = tfds(data_name="small", data_dir=str(tmp_path))
    monkeypatch.setattr(sys.modules["fedjax_ecgr.data.datasets.tfds"], "_open", None)
    second = tfds(data_name="small", data_dir=str(tmp_path))
    np.testing.assert_array_equal(first.train.inputs, second.train.inputs)
    assert isinstance(second.train.inputs.base, np.memmap) or isinstance(
        second.train.inputs, np.memmap
    )
    assert len(list(cache.iterdir())) == 1


def test_reading_takes_no_tensorflow(tmp_path):
    prepare_tfds(tmp_path, {"train": images(12), "test": images(6)})
    code = (
        "import sys, fedjax_ecgr as fx; fx.datasets.tfds(data_name='small', "
        f"data_dir={str(tmp_path)!r}); print('tensorflow' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data_name": None}, "data_name: None is not allowed"),
        (
            {"data_name": "smal"},
            "data_name: 'smal', did you mean 'small'? is not prepared in ",
        ),
        ({"data_name": "small:2.0.0"}, "'small:2.0.0', did you mean 'small'? is not prepared"),
        ({"owner_feature": "writer"}, "owner_feature: unknown 'writer' (known: image, label)"),
        ({"image_size": 0}, "image_size: 0 is not allowed"),
        ({"test_fraction": 1.0}, "test_fraction: 1.0 is not allowed"),
    ],
)
def test_mistakes_are_named(tmp_path, cache, options, said):
    prepare_tfds(tmp_path, {"train": images(12), "test": images(6)})
    with pytest.raises(InputError) as caught:
        tfds(**{"data_name": "small", "data_dir": str(tmp_path), **options})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cache.exists()


def test_images_of_other_channels_are_refused(tmp_path, cache):
    prepare_tfds(tmp_path, {"train": images(12, (5, 4, 4)), "test": images(6, (5, 4, 4))})
    with pytest.raises(InputError, match="image: 'image', of 4 channels, is not allowed"):
        tfds(data_name="small", data_dir=str(tmp_path))


@pytest.mark.parametrize("damage", ["record", "features", "info"])
def test_a_damaged_folder_is_one_line(tmp_path, cache, damage):
    folder = prepare_tfds(tmp_path, {"train": images(12), "test": images(6)})
    file = {"features": "features.json", "info": "dataset_info.json"}.get(damage)
    path = folder / file if file else next(folder.glob("*train.array_record*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError) as caught:
        tfds(data_name="small", data_dir=str(tmp_path))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())


def test_images_that_cannot_be_read_are_all_named(tmp_path):
    inputs, labels = images(6)
    content = np.array([encoded(pixels) for pixels in inputs], object)
    content[1], content[4] = content[1][:30], b"no image"
    prepare_tfds(tmp_path, {"train": (content, labels)}, image=features.Image(shape=GREY))
    with pytest.raises(InputError) as caught:
        tfds(data_name="small", data_dir=str(tmp_path))
    assert str(caught.value).startswith("2 images not allowed: train[")
    assert "no image" in str(caught.value)


def test_preparing_says_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="tensorflow is not installed"):
        prepare("mnist", data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
