"""IDX folders: as they are published, and as they go wrong."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.datasets import idx
from fedjax_ecgr.data.federated import Spec
from tests.data.sources import idx_bytes, images, write_idx

TRAIN, TEST = images(12), images(6, seed=1)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def assert_read(data, first=0):
    for part, (inputs, labels) in ((data.train, TRAIN), (data.test, TEST)):
        np.testing.assert_array_equal(part.inputs, inputs)
        np.testing.assert_array_equal(part.labels, labels)
        assert part.inputs.dtype == np.uint8
    assert data.spec == Spec((5, 4, 1), 3)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_mnist_s_files_are_read(tmp_path, packed, dot):
    folder = tmp_path / "kmnist"
    folder.mkdir()
    write_idx(folder, TRAIN, TEST, packed=packed, dot=dot)
    data = idx(data_path=str(folder))
    assert_read(data)
    assert data.name == "kmnist"
    np.testing.assert_allclose(data.train.mean, TRAIN[0].mean(), rtol=1e-6)
    np.testing.assert_allclose(data.test.std, TRAIN[0].std(), rtol=1e-6)


def test_emnist_s_sets_are_told_apart_and_letters_begin_at_0(tmp_path):
    words = ("train", "test")
    write_idx(tmp_path, TRAIN, TEST, packed=True, before="emnist-letters-", words=words, first=1)
    assert_read(idx(data_path=str(tmp_path)))
    other = images(9, seed=5)
    write_idx(tmp_path, other, TEST, before="emnist-mnist-", words=words)
    data = idx(data_path=str(tmp_path), data_name="emnist-mnist")
    np.testing.assert_array_equal(data.train.inputs, other[0])
    assert data.name == "emnist-mnist"
    assert_read(idx(data_path=str(tmp_path), data_name="emnist-letters"))
    with pytest.raises(InputError, match="several: emnist-letters, emnist-mnist"):
        idx(data_path=str(tmp_path))
    with pytest.raises(InputError, match="unknown 'emnist-letter', did you mean 'emnist-letters'"):
        idx(data_path=str(tmp_path), data_name="emnist-letter")


def test_mean_0_and_std_255_give_inputs_in_the_unit_interval(tmp_path):
    write_idx(tmp_path, TRAIN, TEST)
    train = idx(data_path=str(tmp_path), mean=(0.0,), std=(255.0,)).train
    np.testing.assert_array_equal(train.mean, [0])
    np.testing.assert_array_equal(train.std, [255])


FIRST = "train-images-idx3-ubyte"
SIXTEEN_GIB = bytes([0, 0, 8, 3]) + bytes([255] * 12) + b"few"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (FIRST, None, f"holds no {FIRST}[.gz]"),
        ("t10k-labels-idx1-ubyte", None, "holds no t10k-labels-idx1-ubyte[.gz]"),
        (FIRST, b"", "not an IDX file of uint8 with 3 axes"),
        (FIRST, b"<html>not found</html>", "not an IDX file"),
        (FIRST, idx_bytes(TRAIN[1]), "with 3 axes"),
        (FIRST, idx_bytes(TRAIN[0][..., 0])[:-1], "fewer numbers than the 12 × 5 × 4"),
        (FIRST, idx_bytes(TRAIN[0][..., 0]) + b"0", "more numbers than the 12 × 5 × 4"),
        (FIRST, SIXTEEN_GIB, "fewer numbers than the 4294967295 × 4294967295"),
        (FIRST, idx_bytes(TRAIN[0][:-1, ..., 0]), "11 train images, 12 labels"),
        (FIRST + ".gz", b"not packed", "cannot be read: Not a gzipped file"),
        (FIRST + ".gz", gzip.compress(idx_bytes(TRAIN[0][..., 0]))[:-9], "cannot be read: Comp"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(tmp_path, file, content, said):
    write_idx(tmp_path, TRAIN, TEST)
    (tmp_path / file.removesuffix(".gz")).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as error:
        idx(data_path=str(tmp_path))
    assert said in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_must_be_named():
    with pytest.raises(InputError, match="data_path: None is not allowed"):
        idx()


@pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is missing"
)
def test_real_fashion_mnist():
    """Its balance, first labels, and the mean and deviation by which everyone normalises it."""
    data = idx(data_path=str(DEBIAN))
    assert data.name == "fashion-mnist"
    assert data.train.inputs.shape == (60_000, 28, 28, 1)
    assert data.test.inputs.shape == (10_000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(data.train.labels), 6000)
    np.testing.assert_array_equal(np.bincount(data.test.labels), 1000)
    assert data.train.labels[:5].tolist() == [9, 0, 0, 3, 0]
    np.testing.assert_allclose(data.train.mean / 255, 0.2860, atol=5e-5)
    np.testing.assert_allclose(data.train.std / 255, 0.3530, atol=5e-5)
