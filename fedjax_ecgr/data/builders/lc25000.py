"""LC25000, lung and colon histopathology, as a builder of TensorFlow Datasets.

Source: Borkowski, Bui, Thomas, Wilson, DeLand, Mastorides, "Lung and Colon Cancer Histopathological
Image Dataset (LC25000)", arXiv 1912.12142: 25,000 images of 768 × 768, 5,000 of each of five
classes, augmented from 1,250 originals. The archive, extracted, is

    lung_colon_image_set/colon_image_sets/colon_aca/colonca1.jpeg … colonca5000.jpeg
                                          colon_n/colonn1.jpeg …
                         lung_image_sets/lung_aca/lungaca1.jpeg …
                                         lung_n/lungn1.jpeg …
                                         lung_scc/lungscc1.jpeg …

Images are resampled once to 128 × 128, as in the published ECGR runs (arXiv 2601.03584). The
archive has no split. Here every fifth image of a class, by its number, is for the test: 20,000 and
5,000 images. Which of them come from the same original is not published, so that some originals are
on both sides, whatever the split.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import images

SIZE = 128
PUBLISHED = {
    "colon_image_sets/colon_aca": "colonca",
    "colon_image_sets/colon_n": "colonn",
    "lung_image_sets/lung_aca": "lungaca",
    "lung_image_sets/lung_n": "lungn",
    "lung_image_sets/lung_scc": "lungscc",
}
"""Each class's folder, and what its files are called before their number."""

_ROOT, _EACH, _TEST_EVERY = "lung_colon_image_set", 5000, 5


def checksum(names: Iterable[str]) -> str:
    """Returns the SHA-256 of a list of files: their sorted names, each with a line's end."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


CHECKSUM = checksum(
    f"{folder}/{start}{number}.jpeg"
    for folder, start in PUBLISHED.items()
    for number in range(1, _EACH + 1)
)
"""Of the published archive's 25,000 files."""


class Lc25000(tfds.core.GeneratorBasedBuilder):
    """LC25000 at 128 × 128; see the module.

    Attributes:
      trusted: whether another list of files than the published one is taken.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir must hold lung_colon_image_set, the published archive extracted"
    )
    trusted = False

    def _info(self) -> Any:
        labels = [Path(folder).name for folder in PUBLISHED]
        return tfds.core.DatasetInfo(
            builder=self,
            description="Lung and colon histopathology at 128 × 128.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=labels),
                    "file": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/tampapath/lung_colon_image_set",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        files = listed(Path(dl_manager.manual_dir), trusted=self.trusted)
        train = [entry for entry in files if entry[2] % _TEST_EVERY]
        test = [entry for entry in files if entry[2] % _TEST_EVERY == 0]
        wrong: list[tuple[str, str]] = []
        return {
            "train": self._generate_examples(train, wrong, last=False),
            "test": self._generate_examples(test, wrong, last=True),
        }

    def _generate_examples(
        self, files: list[tuple[Path, str, int]], wrong: list[tuple[str, str]], last: bool
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        from PIL import Image

        for path, label, number in files:
            try:
                pixels = images.decode(path, channels=3, size=SIZE)
            except ValueError as error:
                wrong.append((str(path), str(error)))
                continue
            encoded = BytesIO()
            Image.fromarray(pixels).save(encoded, "PNG")
            encoded.seek(0)
            name = f"{label}/{number}"
            yield name, {"image": encoded, "label": label, "file": path.name}
        if last:
            images.refuse("image", wrong)


def listed(manual_dir: Path, *, trusted: bool = False) -> list[tuple[Path, str, int]]:
    """Returns each image's file, class and number.

    Args:
      manual_dir: holds `lung_colon_image_set`.
      trusted: whether another list than the published one is taken, so long as it has each class.

    Raises:
      InputError: one line, if a class is missing or empty, there are files of other names, or the
        list is not the published one.
    """
    root = manual_dir / _ROOT
    if not root.is_dir():
        raise InputError(
            f"lc25000: {str(manual_dir)!r} holds no {_ROOT}, the published archive extracted"
        )
    found: list[tuple[Path, str, int]] = []
    wrong: list[tuple[str, str]] = []
    for folder, start in PUBLISHED.items():
        paths = sorted((root / folder).iterdir()) if (root / folder).is_dir() else []
        for path in paths:
            match = re.fullmatch(rf"{start}([1-9][0-9]*)\.jpe?g", path.name)
            if match is None:
                wrong.append((str(path), f"not called {start}1.jpeg …"))
            else:
                found.append((path, Path(folder).name, int(match[1])))
        if not paths:
            wrong.append((str(root / folder), "no image"))
    organs = {(root / folder).parent for folder in PUBLISHED}
    placed = organs | {root / folder for folder in PUBLISHED}
    for above in sorted({root, *filter(Path.is_dir, organs)}):
        wrong += [(str(path), "wrongly placed") for path in above.iterdir() if path not in placed]
    images.refuse("place", wrong)
    own = checksum(path.relative_to(root).as_posix() for path, _, _ in found)
    if own != CHECKSUM and not trusted:
        raise InputError(
            f"lc25000: {len(found)} images in {str(root)!r} are not the 25,000 published ones: the "
            f"list of files has SHA-256 {own[:16]}…, not {CHECKSUM[:16]}… (see trust_manual)"
        )
    return sorted(found, key=lambda entry: (entry[1], entry[2]))
