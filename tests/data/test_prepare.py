"""Preparing and decoding that were killed midway: nothing of it is found, and both work again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.builders.lc25000 import PUBLISHED
from fedjax_ecgr.data.datasets import image_folder, tfds
from fedjax_ecgr.data.prepare import prepare
from fedjax_ecgr.data.tfds_folder import prepared
from tests.data.sources import encoded, images, write_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fedjax_ecgr" / "data"


def killed_at(pipe, code):
    """Runs a program of its own and kills it when it begins to read the pipe, where it waits."""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))  # fails while nobody reads
            break
        except OSError:
            time.sleep(0.01)
    process.kill()
    said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said


def write_lc25000(folder):
    """Writes each class's first five images; returns the last one's path."""
    content = encoded(np.zeros((8, 8, 3), np.uint8), "JPEG")
    for inner, start in PUBLISHED.items():
        path = folder / "lung_colon_image_set" / inner
        path.mkdir(parents=True)
        for number in range(1, 6):
            (path / f"{start}{number}.jpeg").write_bytes(content)
    return path / f"{start}5.jpeg"


def test_a_data_set_whose_preparing_was_killed_is_not_found_and_is_prepared_again(tmp_path):
    manual, data = tmp_path / "manual", tmp_path / "data"
    last = write_lc25000(manual)
    content = last.read_bytes()
    last.unlink()
    os.mkfifo(last)
    options = {"data_dir": str(data), "manual_dir": str(manual), "trust_manual": True}
    code = f"from fedjax_ecgr.data.prepare import prepare; prepare('lc25000', **{options})"
    killed_at(last, code)
    assert list(data.glob("lc25000/*incomplete*")), "nothing was under way"
    assert prepared(data) == {}
    with pytest.raises(InputError, match=r"'lc25000' is not prepared in .* \(prepared: nothing\)"):
        tfds(data_name="lc25000", data_dir=str(data))
    last.unlink()
    last.write_bytes(content)
    prepare("lc25000", **options)
    assert list(prepared(data)) == ["lc25000"]
    found = tfds(data_name="lc25000", data_dir=str(data))
    assert np.bincount(found.train.labels).tolist() == [4] * 5
    assert np.bincount(found.test.labels).tolist() == [1] * 5


@pytest.mark.parametrize("written", [1, 3], ids=["the first array", "the third"])
def test_a_cache_whose_writing_was_killed_is_not_found_and_is_made_again(tmp_path, cache, written):
    shape = (5, 4, 3)
    train, test = images(12, shape), images(6, shape, seed=1)
    write_images(tmp_path / "small" / "train", *train)
    write_images(tmp_path / "small" / "test", *test)
    code = f"""
import itertools, os, signal
from fedjax_ecgr import files
from fedjax_ecgr.data.datasets import image_folder
flushed, sync = itertools.count(1), os.fsync
def last(descriptor):
    sync(descriptor)
    if next(flushed) == {written}:
        os.kill(os.getpid(), signal.SIGKILL)
files.os.fsync = last
image_folder(data_path={str(tmp_path / "small")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    (half,) = cache.iterdir()
    assert half.name.startswith(".small-")
    assert len(list(half.iterdir())) == written
    for _ in range(2):  # made again, then read
        data = image_folder(data_path=str(tmp_path / "small"))
        for part, (inputs, labels) in ((data.train, train), (data.test, test)):
            order = np.argsort(labels, kind="stable")  # class by class
            np.testing.assert_array_equal(part.inputs, inputs[order])
            np.testing.assert_array_equal(part.labels, labels[order])
    whole = [path for path in cache.iterdir() if path != half]
    assert [path.name for path in whole] == [half.name.split(".")[1]]
