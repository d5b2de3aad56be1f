"""Where TensorFlow Datasets keeps what it prepared."""

import os
from pathlib import Path

from fedjax_ecgr.check import InputError, nearest


def default_folder(data_dir: str | Path | None = None) -> Path:
    """Returns the folder of all prepared data sets: TensorFlow Datasets' own by default."""
    if data_dir is not None:
        return Path(data_dir).absolute()
    return Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")


def prepared(folder: Path) -> dict[str, Path]:
    """Returns the newest version of each prepared data set, by name ("emnist/byclass")."""
    found: dict[str, tuple[tuple[int, ...], Path]] = {}
    for path in folder.glob("**/dataset_info.json") if folder.is_dir() else ():
        version, name = _version(path.parent.name), path.parent.parent.relative_to(folder)
        if version is not None and version >= found.get(str(name), ((), path))[0]:
            found[str(name)] = version, path.parent
    return {name: path for name, (_, path) in sorted(found.items())}


def find(data_name: str, folder: Path) -> Path:
    """Returns the folder of a prepared data set ("emnist/byclass", or "mnist:3.0.1").

    Raises:
      InputError: if it is not prepared there.
    """
    name, _, version = data_name.partition(":")
    if version and (folder / name / version / "dataset_info.json").is_file():
        return folder / name / version
    known = prepared(folder)
    if version or name not in known:
        there = ", ".join(known) or "nothing"
        raise InputError(
            f"data_name: {data_name!r}{nearest(name, known)} is not prepared in {str(folder)!r} "
            f"(prepared: {there}); prepare it by `fedjax-ecgr data prepare {data_name}`"
        )
    return known[name]


def _version(text: str) -> tuple[int, ...] | None:
    parts = text.split(".")
    return tuple(map(int, parts)) if len(parts) == 3 and all(map(str.isdecimal, parts)) else None
