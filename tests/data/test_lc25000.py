"""LC25000: the published archive's layout, on a generated tree of JPEGs."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.builders import lc25000
from fedjax_ecgr.data.datasets import tfds
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.data.prepare import prepare
from tests.data.sources import encoded

EACH = 10
NAMES = {
    "colon_image_sets/colon_aca": "colonca",
    "colon_image_sets/colon_n": "colonn",
    "lung_image_sets/lung_aca": "lungaca",
    "lung_image_sets/lung_n": "lungn",
    "lung_image_sets/lung_scc": "lungscc",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def manual(tmp_path):
    rng = np.random.default_rng(0)
    for folder, start in NAMES.items():
        path = tmp_path / "manual" / "lung_colon_image_set" / folder
        path.mkdir(parents=True)
        for number in range(1, EACH + 1):
            pixels = rng.integers(0, 256, (160, 160, 3), np.uint8)
            (path / f"{start}{number}.jpeg").write_bytes(encoded(pixels, "JPEG"))
    return tmp_path / "manual"


def prepared(tmp_path, manual, **options):
    return prepare("lc25000", data_dir=tmp_path / "data", manual_dir=manual, **options)


def leftovers(tmp_path):
    folder = tmp_path / "data"
    return [p for p in folder.rglob("*") if "incomplete" in p.name or p.suffix == ".json"]


def test_images_are_downsized_once_and_split_by_number(tmp_path, manual):
    prepared(tmp_path, manual, trust_manual=True)
    data = tfds(data_name="lc25000", data_dir=str(tmp_path / "data"))
    assert data.spec == Spec((128, 128, 3), 5)
    assert np.bincount(data.train.labels).tolist() == [8] * 5
    assert np.bincount(data.test.labels).tolist() == [2] * 5
    held = {
        image.tobytes(): int(label)
        for image, label in zip(data.test.inputs, data.test.labels, strict=True)
    }
    for label, (folder, start) in enumerate(NAMES.items()):
        for number in (5, 10):  # every fifth is for the test
            path = manual / "lung_colon_image_set" / folder / f"{start}{number}.jpeg"
            with Image.open(path) as image:
                small = np.asarray(image.resize((128, 128), Image.Resampling.BILINEAR))
            assert held[small.tobytes()] == label


def test_another_list_of_files_than_the_published_one_is_refused(tmp_path, manual):
    with pytest.raises(InputError, match=r"50 images in .* are not the 25,000 published ones"):
        prepared(tmp_path, manual)
    assert leftovers(tmp_path) == []


def test_the_checksum_is_that_of_the_sorted_published_names():

    names = sorted(
        f"{folder}/{start}{n}.jpeg" for folder, start in NAMES.items() for n in range(1, 5001)
    )
    expected = hashlib.sha256(("\n".join(names) + "\n").encode()).hexdigest()
    assert expected == lc25000.CHECKSUM


def test_all_wrong_images_are_one_line_and_nothing_stays(tmp_path, manual):
    root = manual / "lung_colon_image_set"
    (root / "colon_image_sets/colon_n/colonn3.jpeg").write_bytes(b"no image")
    (root / "lung_image_sets/lung_n/lungn5.jpeg").write_bytes(
        encoded(np.zeros((9, 9, 1), np.uint8), "JPEG")
    )
    with pytest.raises(InputError) as caught:
        prepared(tmp_path, manual, trust_manual=True)
    text = str(caught.value)
    assert "2 images not allowed" in text
    assert "colonn3.jpeg: no image" in text
    assert "lungn5.jpeg: grey, not colour" in text
    assert "\n" not in text
    assert leftovers(tmp_path) == []


def test_wrong_places_and_empty_classes_are_one_line(tmp_path, manual):
    root = manual / "lung_colon_image_set"
    (root / "lung_image_sets/lung_n/other.jpeg").write_bytes(b"")
    (root / "colon_image_sets/stray.jpeg").write_bytes(b"")
    for path in (root / "lung_image_sets/lung_scc").iterdir():
        path.unlink()
    with pytest.raises(InputError) as caught:
        prepared(tmp_path, manual, trust_manual=True)
    text = str(caught.value)
    for said in (
        "3 places",
        "other.jpeg: not called lungn1",
        "stray.jpeg: wrongly placed",
        "no image",
    ):
        assert said in text
    assert "\n" not in text


def test_a_missing_archive_is_one_line(tmp_path):
    (tmp_path / "manual").mkdir()
    for manual, said in (
        (tmp_path / "no", "is not a folder"),
        (None, "lc25000: "),
        (tmp_path / "manual", "lc25000: "),
    ):
        with pytest.raises(InputError) as caught:
            prepared(tmp_path, manual)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
