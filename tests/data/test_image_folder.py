"""Folders of images: layouts that are read, and every image that is wrong named at once."""

import numpy as np
import pytest

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.datasets import image_folder
from fedjax_ecgr.data.federated import Spec
from tests.data.sources import encoded, images, write_images

SHAPE = (6, 5, 3)
TRAIN, TEST = images(9, SHAPE), images(6, SHAPE, seed=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fedjax_ecgr" / "data"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "pictures"
    write_images(root / "train", *TRAIN)
    write_images(root / "test", *TEST)
    return root


def by_class(inputs, labels):
    """In the order of the folders."""
    order = np.argsort(labels, kind="stable")
    return inputs[order], labels[order]


def assert_holds(part, expected):
    inputs, labels = by_class(*expected)
    np.testing.assert_array_equal(part.inputs, inputs)
    np.testing.assert_array_equal(part.labels, labels)


@pytest.mark.parametrize("test", ["test", "val"])
def test_split_and_class_are_folders(root, test):
    (root / "test").rename(root / test)
    data = image_folder(data_path=str(root))
    assert_holds(data.train, TRAIN)
    assert_holds(data.test, TEST)
    assert data.spec == Spec(SHAPE, 3)
    assert data.name == "pictures"


def test_tinyimagenet_as_it_is_published(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    write_images(root / "train", *TRAIN, inner="images")
    (root / "train" / "a" / "a_boxes.txt").write_text("not an image")
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)  # its test images have no labels
    (root / "test" / "images" / "test_0.JPEG").write_bytes(encoded(TEST[0][0]))
    lines = []
    for row, (pixels, label) in enumerate(zip(*TEST, strict=True)):
        (root / "val" / "images" / f"val_{row}.JPEG").write_bytes(encoded(pixels))
        lines.append(f"val_{row}.JPEG\t{'abc'[label]}\t0\t0\t1\t1\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    data = image_folder(data_path=str(root))
    assert_holds(data.train, TRAIN)
    np.testing.assert_array_equal(data.test.inputs, TEST[0])
    np.testing.assert_array_equal(data.test.labels, TEST[1])
    other = (TEST[1][0] + 1) % 3
    corrected = [f"val_0.JPEG\t{'abc'[other]}\t0\t0\t1\t1\n", *lines[1:]]
    (root / "val" / "val_annotations.txt").write_text("".join(corrected))
    assert image_folder(data_path=str(root)).test.labels.tolist() == [other, *TEST[1][1:]]


def test_classes_alone_are_split(root):
    data = image_folder(data_path=str(root / "train"), test_fraction=0.34)
    assert np.bincount(data.test.labels).tolist() == [1, 1, 1]
    assert np.bincount(data.train.labels).tolist() == [2, 2, 2]


def test_grey_and_resampled(tmp_path):
    grey = images(6, (8, 8, 1))
    write_images(tmp_path / "grey", *grey)
    data = image_folder(data_path=str(tmp_path / "grey"), grey=True)
    assert data.spec.input_shape == (8, 8, 1)
    small = image_folder(data_path=str(tmp_path / "grey"), image_size=4, convert=True)
    assert small.spec.input_shape == (4, 4, 3)
    assert np.ptp(small.train.inputs, axis=-1).max() == 0


@pytest.mark.parametrize("convert", [False, True])
def test_more_than_eight_bits_a_pixel_are_not_cut_off(tmp_path, convert):
    deep = np.arange(0, 60_000, 2_000, dtype=np.uint16).reshape(6, 5, 1)
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "deep.png").write_bytes(encoded(deep))
    with pytest.raises(InputError, match="of mode I;16, more than 8 bits a pixel"):
        image_folder(data_path=str(tmp_path), grey=True, convert=convert)


def test_an_image_that_changes_is_read_again(root, cache):
    before = image_folder(data_path=str(root)).train.inputs.copy()
    path = next((root / "train" / "a").iterdir())
    path.write_bytes(encoded(np.zeros(SHAPE, np.uint8)))
    after = image_folder(data_path=str(root)).train.inputs
    assert not np.array_equal(before, after)
    assert len(list(cache.iterdir())) == 2


def test_all_that_is_wrong_with_images_is_one_line(root, cache):
    folder = root / "train" / "b"
    sound = sorted(folder.iterdir())
    (folder / "grey.png").write_bytes(encoded(TRAIN[0][0][..., :1]))
    (folder / "large.png").write_bytes(encoded(np.zeros((7, 5, 3), np.uint8)))
    (folder / "text.jpg").write_text("no image")
    sound[0].write_bytes(sound[0].read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        image_folder(data_path=str(root))
    text = str(caught.value)
    assert text.startswith("4 images not allowed: ")
    for said in (
        f"{folder / 'grey.png'}: grey, not colour",
        f"{folder / 'large.png'}: 7x5 where the first is 6x5 (see image_size)",
        f"{folder / 'text.jpg'}: no image",
        str(sound[0]),
    ):
        assert said in text
    assert "\n" not in text
    assert not cache.exists() or not list(cache.iterdir())


def test_all_that_is_wrongly_placed_is_one_line(root):
    (root / "train" / "stray.png").write_bytes(encoded(TRAIN[0][0]))
    (root / "train" / "empty").mkdir()
    (root / "train" / "a" / "deeper").mkdir()
    write_images(root / "test", TEST[0][:1], [5])
    with pytest.raises(InputError) as caught:
        image_folder(data_path=str(root))
    text = str(caught.value)
    assert text.startswith("4 places not allowed: ")
    for said in (
        "stray.png: wrongly placed, in no class's folder",
        "empty: a class without an image",
        "deeper: a folder where images should be",
        "class 'f' has no training image",
    ):
        assert said in text
    assert "\n" not in text


def test_mistakes_are_named(tmp_path):
    for options, said in (
        ({}, "data_path: None is not allowed"),
        ({"data_path": str(tmp_path / "no")}, "is not a folder"),
        ({"data_path": str(tmp_path)}, "holds no train images"),
        ({"data_path": str(tmp_path), "image_size": -1}, "image_size: -1"),
    ):
        with pytest.raises(InputError, match=said):
            image_folder(**options)
