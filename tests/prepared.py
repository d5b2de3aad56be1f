"""Checks what TensorFlow Datasets' own builders prepare, read back where there is no TensorFlow.

    python -m tests.prepared PYTHON [FOLDER]

PYTHON is the interpreter of another environment, with `pip install '.[prepare]'`: TensorFlow is in
that one alone, and is never imported here, which is checked. FOLDER holds the four files of
Fashion-MNIST; by default it is where Debian's package dataset-fashion-mnist puts them. Prints a
line for each check, and exits with 1 if one fails.

- Fashion-MNIST, all of it: the sources `idx`, `npz` and `tfds` give the same 70,000 images and
  labels, bit for bit, and the same normalisation. Preparing shuffles: there the examples are
  compared whatever their order.
- Preparing it, killed midway: nothing of it is found, and the second time it works.
- CIFAR-10, CIFAR-100, SVHN (cropped) and EMNIST, a few random images each, which this file writes
  in the published formats. `--trust-manual` takes them, though the catalogue knows other checksums.
  Builders prepare as many examples as they find, but for EMNIST's, which reads as many as are
  published (814,255 in `byclass`): these two numbers alone are lowered in it. Its sets are in two
  archives of one name here, neither of which may be taken for the other.
"""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io

import fedjax_ecgr as fx
from fedjax_ecgr.data.tfds_folder import prepared
from tests.data.sources import idx_bytes

ROOT = Path(__file__).parents[1]
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SIZES = {"train": 130, "test": 70, "extra": 30}  # each of 62 classes is in two parts

Part = tuple[np.ndarray, np.ndarray]
Parts = Mapping[str, Part]
"""Images [N, height, width, channels], uint8, and labels [N], of each part."""


class Verdict(NamedTuple):
    """What was checked, and whether it holds."""

    what: str
    passed: bool

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.what}"


# The published formats.


def write_cifar10(folder: Path, parts: Parts) -> None:
    """A label, then the pixels channel by channel; the training examples in five files."""
    images, labels = parts["train"]
    batches = zip(np.array_split(images, 5), np.array_split(labels, 5), strict=True)
    files = {f"data_batch_{number}.bin": _cifar(*b) for number, b in enumerate(batches, start=1)}
    files |= {"test_batch.bin": _cifar(*parts["test"]), "batches.meta.txt": _names(10)}
    _write_tar(folder / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", files)


def write_cifar100(folder: Path, parts: Parts) -> None:
    """Two labels, the coarse one first, then the pixels."""
    files = {f"{p}.bin": _cifar(x, y // 5, y) for p, (x, y) in parts.items() if p != "extra"}
    files |= {"coarse_label_names.txt": _names(20), "fine_label_names.txt": _names(100)}
    _write_tar(folder / "cifar-100-binary.tar.gz", "cifar-100-binary", files)


def write_svhn(folder: Path, parts: Parts) -> None:
    """MATLAB's files: examples on the last axis, and digit 0 labelled 10."""
    for part, (images, labels) in parts.items():
        tens = np.where(labels == 0, 10, labels).astype(np.uint8)[:, np.newaxis]
        content = {"X": np.moveaxis(images, 0, -1), "y": tens}
        scipy.io.savemat(folder / f"{part}_32x32.mat", content)


def write_emnist(folder: Path, parts: Parts, name: str) -> None:
    """A zip of gzipped IDX files."""
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for part in ("train", "test"):
            images, labels = parts[part]
            for kind, values in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
                path = f"gzip/emnist-{name}-{part}-{kind}-ubyte.gz"
                archive.writestr(path, gzip.compress(idx_bytes(values)))


def read_fashion_mnist(folder: Path) -> Parts:
    """All of it, without this project's reader: what follows heads of known lengths."""

    def content(name: str, head: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes())[head:], np.uint8)

    return {
        part: (
            content(f"{word}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1),
            content(f"{word}-labels-idx1-ubyte.gz", 8),
        )
        for part, word in (("train", "train"), ("test", "t10k"))
    }


def _cifar(images: np.ndarray, *labels: np.ndarray) -> bytes:
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([*labels, pixels]).astype(np.uint8).tobytes()


def _names(count: int) -> bytes:
    return "".join(f"class {label}\n" for label in range(count)).encode()


def _write_tar(path: Path, folder: str, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


class Small(NamedTuple):
    """A data set of the catalogue, and how some examples of it are published.

    Attributes:
      write: writes them to a folder.
      spec: as the builder describes it.
      labels: all that occur.
    """

    write: Callable[[Path, Parts], None]
    spec: fx.Spec
    labels: range


SMALL = {
    "cifar10": Small(write_cifar10, fx.Spec((32, 32, 3), 10), range(10)),
    "cifar100": Small(write_cifar100, fx.Spec((32, 32, 3), 100), range(100)),
    "svhn_cropped": Small(write_svhn, fx.Spec((32, 32, 3), 10), range(10)),
    "emnist/byclass": Small(
        partial(write_emnist, name="byclass"), fx.Spec((28, 28, 1), 62), range(62)
    ),
    "emnist/letters": Small(  # the builder allows for classes that no file has
        partial(write_emnist, name="letters"), fx.Spec((28, 28, 1), 37), range(1, 27)
    ),
}


def drawn(small: Small) -> Parts:
    """Random images, other ones in each part; the labels in turn."""
    rng = np.random.default_rng(0)
    shape = small.spec.input_shape
    return {
        part: (rng.integers(0, 256, (size, *shape), np.uint8), np.resize(small.labels, size))
        for part, size in SIZES.items()
    }


# Preparing, in the other environment.


def preparing(python: str, manual: Mapping[str, Path], data: Path) -> list[str]:
    """Returns the command that prepares data sets, each from a folder."""
    options = ["--data-dir", str(data), "--trust-manual", "--manual-dir"]
    each = [["data", "prepare", name, *options, str(folder)] for name, folder in manual.items()]
    fewer = f"train_examples, config.test_examples = {SIZES['train']}, {SIZES['test']}"
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        "from fedjax_ecgr.cli import main\n"
        f"for config in tfds.image_classification.EMNIST.BUILDER_CONFIGS: config.{fewer}\n"
        f"sys.exit(max(map(main, {each})))"
    )
    return [python, "-c", code]


def prepare(python: str, manual: Mapping[str, Path], data: Path) -> None:
    """Prepares data sets.

    Raises:
      SystemExit: with what the command said, if it failed.
    """
    command = preparing(python, manual, data)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stderr}error: preparing ended with exit status {done.returncode}")


def prepare_until_killed(python: str, name: str, manual: Path, data: Path) -> bool:
    """Begins to prepare a data set; returns whether it was killed while it wrote examples."""
    process = subprocess.Popen(
        preparing(python, {name: manual}, data),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not _writing(data / name):
        time.sleep(0.05)
    process.kill()
    return process.wait() < 0 and _writing(data / name)


def _writing(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob("incomplete*/*"))


# Reading, here.


def ordered(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    """Returns the examples in an order of their own."""
    assert images.dtype == np.uint8
    examples = zip(images, labels.tolist(), strict=True)
    return sorted((image.tobytes(), label) for image, label in examples)


def same(data: fx.Dataset, parts: Parts, spec: fx.Spec, *, shuffled: bool) -> bool:
    """Whether a data set is what was written."""
    return data.spec == spec and all(
        ordered(*found) == ordered(*parts[part]) if shuffled else _equal(found, parts[part])
        for part, found in (("train", _pair(data.train)), ("test", _pair(data.test)))
    )


def _pair(examples: fx.Examples) -> Part:
    return np.asarray(examples.inputs), np.asarray(examples.labels)


def _equal(found: Part, written: Part) -> bool:
    assert found[0].dtype == np.uint8
    return all(map(np.array_equal, found, written))


def fashion_mnist(python: str, folder: Path, scratch: Path) -> Iterator[Verdict]:
    """Checks Fashion-MNIST, three ways."""
    name, data = "fashion_mnist", scratch / "data"
    parts, spec = read_fashion_mnist(folder), fx.Spec((28, 28, 1), 10)
    examples = " + ".join(f"{len(labels):,}" for _, labels in parts.values())

    idx = fx.datasets.idx(data_path=str(folder))
    yield Verdict(f"{name}: {examples} by idx", same(idx, parts, spec, shuffled=False))

    arrays = {
        f"{part}_{kind}": values
        for part, pair in parts.items()
        for kind, values in zip(("inputs", "labels"), pair, strict=True)
    }
    np.savez(scratch / "own.npz", **arrays)  # type: ignore[arg-type]
    npz = fx.datasets.npz(data_path=str(scratch / "own.npz"))
    yield Verdict(f"{name}: {examples} by npz", same(npz, parts, spec, shuffled=False))

    killed = prepare_until_killed(python, name, folder, data)
    nothing = prepared(data) == {}
    try:
        fx.datasets.tfds(data_name=name, data_dir=str(data))
    except fx.InputError as error:
        nothing &= "is not prepared" in str(error)
    else:
        nothing = False
    yield Verdict(f"{name}: killed midway, nothing is found of it", killed and nothing)

    prepare(python, {name: folder}, data)
    tfds = fx.datasets.tfds(data_name=name, data_dir=str(data))
    yield Verdict(f"{name}: {examples} by tfds", same(tfds, parts, spec, shuffled=True))

    scales = {(*x.train.mean.tolist(), *x.train.std.tolist()) for x in (idx, npz, tfds)}
    yield Verdict(f"{name}: one normalisation by all three", len(scales) == 1)


def catalogue(python: str, scratch: Path) -> Iterator[Verdict]:
    """Checks the small ones."""
    manual, parts = {name: scratch / "manual" / name for name in SMALL}, {}
    for name, small in SMALL.items():
        manual[name].mkdir(parents=True)
        parts[name] = drawn(small)
        small.write(manual[name], parts[name])
    prepare(python, manual, scratch / "data")
    for name, small in SMALL.items():
        data = fx.datasets.tfds(data_name=name, data_dir=str(scratch / "data"))
        read = same(data, parts[name], small.spec, shuffled=True)
        yield Verdict(f"{name}: its layout, by tfds", read)


def main(arguments: list[str]) -> int:
    """Checks all, with that interpreter."""
    if len(arguments) not in (1, 2):
        print("error: what it takes is PYTHON [FOLDER]", file=sys.stderr)
        return 2
    python, folder = arguments[0], Path(arguments[1]) if arguments[1:] else DEBIAN
    if not folder.is_dir():
        how = "apt-get install dataset-fashion-mnist, or name another"
        print(f"error: {folder} is not a folder: {how}", file=sys.stderr)
        return 2
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        for checks in (
            fashion_mnist(python, folder.absolute(), Path(scratch)),
            catalogue(python, Path(scratch)),
        ):
            for verdict in checks:
                print(verdict, flush=True)
                failed += not verdict.passed
    here = Verdict("tensorflow was not imported here", "tensorflow" not in sys.modules)
    print(here)
    return 1 if failed or not here.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
