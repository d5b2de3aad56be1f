"""Preparing a data set of TensorFlow Datasets: the one thing that takes TensorFlow."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedjax_ecgr.check import InputError, nearest
from fedjax_ecgr.data.builders import BUILDERS
from fedjax_ecgr.data.tfds_folder import default_folder
from fedjax_ecgr.process import terminable


def prepare(
    data_name: str,
    *,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    trust_manual: bool = False,
) -> Path:
    """Prepares a data set in the format that the source `tfds` reads, as array records.

    Args:
      data_name: a name of TensorFlow Datasets' catalogue, with its configuration where it has some
        ("emnist/byclass"), or `lc25000`, which is this project's own.
      data_dir: where all prepared data sets are; by default TensorFlow Datasets' own folder.
      manual_dir: a folder with the published files, for a machine that cannot download them.
      trust_manual: whether the files of `manual_dir` are taken as they are, though they are not
        those whose checksums the catalogue knows (packed again, say).

    Returns:
      The folder of the prepared data.

    Raises:
      InputError: if what prepares is not installed, the name is not known, or it fails; nothing
        half-prepared stays then.
      OSError: if there is no room; it names the file.
    """
    if data_name not in BUILDERS and importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            "prepare: tensorflow is not installed, which only preparing needs: "
            "pip install 'fedjax-ecgr[prepare]'"
        )
    import tensorflow_datasets as tfds

    folder = default_folder(data_dir)
    manual = None if manual_dir is None else Path(manual_dir).absolute()
    if manual is not None and not manual.is_dir():
        raise InputError(f"manual_dir: {str(manual_dir)!r} is not a folder")
    if trust_manual and manual is None:
        raise InputError("trust_manual: True is not allowed without a manual_dir")
    try:
        builder = _builder(tfds, data_name, folder)
        if trust_manual:
            _trust(builder, manual)
        downloads = folder / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        # its own: what another archive of the same name held would be taken for this one's
        with terminable(), TemporaryDirectory(prefix="extracted.", dir=downloads) as extracted:
            config = tfds.download.DownloadConfig(
                manual_dir=manual, extract_dir=extracted, try_download_gcs=False
            )
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except (InputError, OSError):
        raise
    except Exception as error:  # a builder may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"prepare: {data_name}: {reason}") from error
    return Path(builder.data_dir)


def _builder(tfds: Any, data_name: str, folder: Path) -> Any:
    if data_name in BUILDERS:
        return BUILDERS[data_name]()(data_dir=folder, file_format="array_record")
    try:
        return tfds.builder(data_name, data_dir=folder, file_format="array_record", try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        known = [*BUILDERS, *tfds.list_builders()]
        raise InputError(
            f"data_name: unknown {data_name!r}{nearest(data_name, known)} "
            f"(known: {len(known) - 1} names of TensorFlow Datasets' catalogue, and lc25000)"
        ) from None


def _trust(builder: Any, manual: Path | None) -> None:
    """Lets a builder expect just the files that are there."""
    builder.trusted = True
    from tensorflow_datasets.core.download import checksums

    assert manual is not None
    expected = builder.url_infos or {}
    for url, info in expected.items():
        path = manual / str(info.filename)
        if path.is_file():
            expected[url] = checksums.compute_url_info(path)
