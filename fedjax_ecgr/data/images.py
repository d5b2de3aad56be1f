"""Image files: decoded to uint8, and all that are wrong named at once."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from fedjax_ecgr.check import InputError

MODES = {1: "L", 3: "RGB"}


def decoded(
    named: Iterable[tuple[str, Path | bytes]],
    number: int,
    *,
    channels: int,
    size: int | None = None,
    convert: bool = False,
) -> np.ndarray:
    """Returns [number, height, width, channels] uint8.

    Args:
      named: for each image what messages call it, and the file or what is in it: JPEG, PNG or what
        else Pillow reads.
      number: how many there are.
      channels: 1 for grey, 3 for colour.
      size: height and width to which images are resampled (with antialiasing); None keeps theirs,
        which must be the same for all.
      convert: whether grey images may become colour, or colour ones grey; an error else.

    Raises:
      InputError: one line that names all images that cannot be read, have other channels, or
        another size than the first.
    """
    images: np.ndarray | None = None
    wrong: list[tuple[str, str]] = []
    for row, (name, source) in enumerate(named):
        try:
            image = decode(source, channels=channels, size=size, convert=convert)
            if images is None:
                images = np.zeros((number, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                own, first = (
                    "x".join(map(str, shape[-3:-1])) for shape in (image.shape, images.shape)
                )
                raise ValueError(f"{own} where the first is {first} (see image_size)")
            images[row] = image
        except ValueError as error:
            wrong.append((name, str(error)))
    refuse("image", wrong)
    return np.zeros((0, 1, 1, channels), np.uint8) if images is None else images


def decode(
    source: Path | bytes, *, channels: int, size: int | None = None, convert: bool = False
) -> np.ndarray:
    """Returns one image, [height, width, channels] uint8; see `decoded`.

    Raises:
      ValueError: that says what is wrong with it.
    """
    from PIL import Image, UnidentifiedImageError  # only who reads images waits for the import

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
            opened.load()
            image: Image.Image = opened
            if image.mode == "P":  # a palette of colours is colour
                image = image.convert("RGB")
            if image.mode.startswith(("I", "F")):  # which Pillow would cut off at 255
                raise ValueError(f"of mode {image.mode}, more than 8 bits a pixel")
            if image.mode != MODES[channels] and not convert:
                what = {"L": "grey", "RGB": "colour"}.get(image.mode, f"of mode {image.mode}")
                raise ValueError(f"{what}, not {'grey' if channels == 1 else 'colour'}")
            image = image.convert(MODES[channels])
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)
    except UnidentifiedImageError:
        raise ValueError("no image") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def refuse(what: str, wrong: Sequence[tuple[str, str]]) -> None:
    """Raises `InputError` if there is something wrong: one line with every name and its reason."""
    if not wrong:
        return
    listed = "; ".join(f"{name}: {reason}" for name, reason in wrong)
    many = f"{len(wrong)} {what}{'s' if len(wrong) > 1 else ''}"
    raise InputError(f"{many} not allowed: {listed}")
