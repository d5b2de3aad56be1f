"""Arrays in .npz files: read as they are, and never more asked for than is there."""

import io
import zipfile

import numpy as np
import pytest

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.datasets import npz
from fedjax_ecgr.data.federated import Spec
from tests.data.sources import images

TRAIN, TEST = images(12), images(6, seed=1)
SOUND = {
    "train_inputs": TRAIN[0],
    "train_labels": TRAIN[1],
    "test_inputs": TEST[0],
    "test_labels": TEST[1],
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_they_were_saved(tmp_path, save):
    save(tmp_path / "mine.npz", **SOUND, num_classes=4, mean=1.0, std=2.0)
    data = npz(data_path=str(tmp_path / "mine.npz"))
    assert data.name == "mine"
    np.testing.assert_array_equal(data.train.inputs, TRAIN[0])
    np.testing.assert_array_equal(data.test.labels, TEST[1])
    assert data.spec == Spec((5, 4, 1), 4)
    assert (data.train.mean, data.train.std) == (1, 2)


def npy(shape, descr="|u1", content=b"few", version=(1, 0)):
    """An array's file that says what it likes of itself."""
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = len(head).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + head + content


def test_the_helper_writes_what_numpy_reads():
    read = np.load(io.BytesIO(npy((3,))))
    assert read.tobytes() == b"few"


TERABYTES = (2**40,)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (npy(TERABYTES), "train_labels.npy: its head says 1099511627776 bytes, there are 3"),
        (npy((4,)), "its head says 4 bytes, there are 3"),
        (npy((2,)), "its head says 2 bytes, there are 3"),
        (npy((2**62, 4)), "there are 3"),
        (npy((1,), descr="|O"), "Python objects are not allowed"),
        (npy((3,), version=(3, 0)), "format (3, 0) is not known"),
        (b"", "cannot be read"),
        (b"text", "cannot be read"),
        (npy((3,))[:30], "cannot be read"),
    ],
)
def test_a_head_that_lies_is_refused_before_anything_is_asked_for(tmp_path, member, said):
    path = tmp_path / "mine.npz"
    np.savez(path, **{name: SOUND[name] for name in SOUND if name != "train_labels"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train_labels.npy", member)
    with pytest.raises(InputError) as caught:
        npz(data_path=str(path))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_labels": None}, "mine.npz: the array 'train_labels' is missing"),
        ({"labels": np.ones(3)}, "mine.npz: unknown option 'labels'"),
        ({"train_labels": TRAIN[1] - 1}, "mine.npz: train_labels[0]: -1 is not allowed"),
        ({"num_classes": 10**10}, "num_classes: 10000000000 is not allowed"),
        ({"train_labels": np.full(12, 2**40)}, "train_labels[0]: 1099511627776"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, changed, said):
    arrays = {name: value for name, value in {**SOUND, **changed}.items() if value is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InputError) as caught:
        npz(data_path=str(tmp_path / "mine.npz"))
    assert said in str(caught.value)


def test_an_encrypted_archive_is_one_line(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **SOUND)
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of each head, and the list's
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 4)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read: .* is encrypted") as caught:
        npz(data_path=str(path))
    assert "\n" not in str(caught.value)


def test_no_archive_and_no_path(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="cannot be read: not an"):
        npz(data_path=str(tmp_path / "text.npz"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        npz(data_path=str(tmp_path))
    with pytest.raises(InputError, match="data_path: None is not allowed"):
        npz()
