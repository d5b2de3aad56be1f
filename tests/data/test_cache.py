"""The cache of decoded arrays: whole or not there, and checked."""

import errno
import os
import resource

import numpy as np
import pytest

from fedjax_ecgr import files
from fedjax_ecgr.data.cache import cached, fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fedjax_ecgr" / "data"


ARRAYS = {
    "x": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "n": np.array(7),
    "names": np.array(["a", "bc"]),
}


def make():
    return ARRAYS


def never():
    raise AssertionError("made again")


def test_arrays_come_back_from_disk():
    for source in (make, never):
        found = cached("mine/own", {"of": [1, 2]}, source)
        assert found.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    assert isinstance(found["x"], np.memmap)


def test_what_is_made_of_something_else_is_made(cache):
    cached("mine", {"of": 1}, make)
    with pytest.raises(AssertionError, match="made again"):
        cached("mine", {"of": 2}, never)
    assert len(list(cache.iterdir())) == 1


def test_of_two_that_make_the_same_the_slower_takes_what_the_faster_kept(cache):
    def slower():
        cached("mine", {}, make)
        (next(cache.iterdir()) / "the faster's").touch()
        return ARRAYS

    found = cached("mine", {}, slower)
    assert isinstance(found["x"], np.memmap)
    (folder,) = cache.iterdir()
    assert (folder / "the faster's").exists()


def test_a_folder_that_appears_meanwhile_is_there_already(tmp_path, monkeypatch):
    def fill(hidden):
        (hidden / "file").write_text("slower")
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "file").write_text("faster")
        monkeypatch.setattr(type(tmp_path), "exists", lambda path: False)  # as just before

    with (
        pytest.raises(FileExistsError, match="File exists") as caught,
        files.whole_folder(tmp_path / "own") as hidden,
    ):
        fill(hidden)
    assert caught.value.filename == str(tmp_path / "own")
    assert (tmp_path / "own" / "file").read_text() == "faster"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "manifest", "empty", "no manifest"])
def test_what_was_damaged_is_made_again(cache, damage):
    cached("mine", {}, make)
    folder = next(cache.iterdir())
    path = folder / ("manifest.json" if "manifest" in damage else "x.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "gone":
        path.unlink()
    elif damage in ("empty", "no manifest"):
        path.write_text("" if damage == "empty" else "[]")
    else:
        path.write_bytes(content[: len(content) // 2] if damage != "bit" else content)
    found = cached("mine", {}, make)
    np.testing.assert_array_equal(found["x"], ARRAYS["x"])


def test_no_space_left_names_the_file_and_leaves_nothing(cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        cached("mine", {}, make)
    assert caught.value.filename.endswith("x.npy")
    assert list(cache.iterdir()) == []


def test_an_array_that_there_is_no_room_for_says_why(cache):
    """NumPy would write past Python, and raise an error without a number."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            cached("mine", {}, lambda: {"x": np.zeros(10**4)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename.endswith("x.npy")


def test_a_reason_without_a_number_is_kept(tmp_path):
    def cut(file):
        raise OSError("3 requested and 2 written")

    with pytest.raises(OSError, match="3 requested and 2 written") as caught:
        files.write(tmp_path / "x", cut)
    assert caught.value.filename == str(tmp_path / "x")


def test_what_cannot_be_made_leaves_nothing(cache):
    with pytest.raises(AssertionError):
        cached("mine", {}, never)
    assert not cache.exists()


def test_a_fingerprint_changes_with_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    before = fingerprint([path])
    assert fingerprint([path]) == before
    path.write_text("three")
    assert fingerprint([path]) != before
