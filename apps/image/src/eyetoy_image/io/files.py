"""Reading picture files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eyetoy_train import UnreadableFileError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
"""Suffixes of picture files, in lower case."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""Formats that Pillow may open, whatever a file's name. Of the others, EPS would start a program, Ghostscript."""
MOST_PIXELS = 2**27
"""134 million, such as 16,384 x 8,192; a colour picture of this size takes 0.4 GB."""


class UnreadableImageError(UnreadableFileError):
    """A file that is no picture, or a broken one."""


def read_image(source: Path | IO[bytes], *, grayscale: bool, name: str | None = None) -> Tensor:
    """Return a picture as uint8 `[1 or 3, height, width]`, turned the way its EXIF data say.

    An animation gives its first frame, 16-bit pixels their upper 8 bits; transparency is dropped.

    Args:
        source: a path, or an open file.
        grayscale: return one channel instead of three.
        name: what to call the picture in messages; the path, by default.

    Raises:
        UnreadableImageError: the file is no picture, or a broken one, or its pixels have no known range.
    """
    try:
        with open_picture(source) as image:
            return to_pixels(image, grayscale=grayscale)
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise UnreadableImageError(f"cannot read {name or source} as a picture: {error}") from error


@contextmanager
def open_picture(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture that somebody else may have made; its pixels are not decoded yet.

    Raises:
        OSError: there is none, or it is of none of `FORMATS`.
        ValueError: it announces more than `MOST_PIXELS`.
    """
    try:
        opened = Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError as error:  # Pillow's own limit, 179 million pixels by default
        raise ValueError(str(error)) from error
    with opened as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"it is of {width} x {height} pixels; it should have {MOST_PIXELS:,} at most")
        yield image


def to_pixels(image: Image.Image, *, grayscale: bool) -> Tensor:
    """Return a picture of Pillow as uint8 `[1 or 3, height, width]`; see `read_image`.

    Raises:
        ValueError: its pixels have no known range.
    """
    upright = _as_8_bit(ImageOps.exif_transpose(image))
    if upright.mode in ("P", "PA"):
        # By way of RGBA, as Pillow asks for where a palette has transparent entries; it warns otherwise.
        upright = upright.convert("RGBA")
    pixels: Tensor = TF.pil_to_tensor(upright.convert("L" if grayscale else "RGB"))
    return pixels


def _as_8_bit(image: Image.Image) -> Image.Image:
    """Keep the upper bits of deep pixels, which `convert` would cut off at 255."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range; pixels of 8 or 16 bits are read")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise ValueError("its pixels are 32-bit numbers of no known range; pixels of 8 or 16 bits are read")
    return Image.fromarray((values >> 8).astype(np.uint8))
