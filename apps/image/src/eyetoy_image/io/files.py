"""Read image files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image, features
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT, TiffImageFile

from eyetoy_image.io.background import HIDDEN, Background, on_background, opacity_of, stored_layout
from eyetoy_train.data.unreadable import UnreadableFileError, refused_sample
from eyetoy_train.media.kinds import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from torch import Tensor

# Pillow may be built without the libraries of some formats.
_OPTIONAL = {
    "avif": (".avif", ".avifs"),
    "jpg_2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "webp": (".webp",),
}
_UNREAD = {suffix for name, suffixes in _OPTIONAL.items() if not features.check(name) for suffix in suffixes}
EXTENSIONS = tuple(suffix for suffix in PICTURE_SUFFIXES if suffix not in _UNREAD)
"""Suffixes of image files, in lower case."""
FORMATS = (
    *("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF"),
    *("ICO", "PCX", "QOI", "SGI"),
)
"""Formats that Pillow may open, whatever a file's name is. Of the others, EPS would start a program, Ghostscript."""
NAMED_FORMATS = {".tga": "TGA"}
"""Formats that files do not show by how they begin, so that Pillow opens them by these suffixes alone."""
ORIENTATION = 0x0112
"""EXIF's tag for how the stored pixels must be turned."""
XMP = 0x02BC
"""The tag of a TIFF file for XMP data, which may tell the same."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the tag's values; from 5 on, height and width are swapped."""
MOST_PIXELS = 2**27
"""134 million, such as 16,384 x 8,192; a colour image of this size takes 0.4 GB."""


class UnreadableImageError(UnreadableFileError):
    """An image cannot be read. The message names the file and its fault."""


def read_image(
    source: Path | IO[bytes], *, grayscale: bool, background: Background = "white", name: str | None = None
) -> Tensor:
    """Return an image as uint8 `[1 or 3, height, width]`, rotated by its EXIF orientation.

    The first frame of an animation is read, and the upper 8 bits of pixels of 12 or 16 bits. Transparent pixels are
    mixed with the background by their alpha, whether that is a channel or belongs to one colour or to entries of a
    palette.

    Args:
        source: a path, or an open file.
        grayscale: return one channel instead of three.
        background: what transparent pixels are laid on; the recipe's `data.background`.
        name: name of the image for messages; the path by default.

    Raises:
        UnreadableImageError: the file is not an image, or is broken, or its pixels have no known range.
    """
    try:
        with open_picture(source, name) as image:
            return to_pixels(image, grayscale=grayscale, background=background)
    except Exception as error:  # decoders raise errors of many types for damaged bytes
        raise UnreadableImageError(f"cannot read {name or source} as a picture: {error}") from error


def read_array(given: Any, *, grayscale: bool, background: Background = "white") -> Tensor:
    """Return a picture in memory as `read_image` returns a file.

    Args:
        given: an image of Pillow; or pixels, uint8 `[height, width, 3]`, `[height, width, 4]` with alpha, or grey
            `[height, width]`.
        grayscale: as in `read_image`.
        background: as in `read_image`.

    Raises:
        ValueError: it is no picture.
    """
    if isinstance(given, np.ndarray):
        has_colour = given.ndim == 3 and given.shape[2] in (3, 4)
        if given.dtype == np.uint8 and (has_colour or given.ndim == 2) and given.size:
            given = Image.fromarray(given)
    if not isinstance(given, Image.Image):
        raise refused_sample(
            given,
            "an image of Pillow, or pixels, uint8 [height, width, 3], [height, width, 4] or [height, width]",
        )
    return to_pixels(given, grayscale=grayscale, background=background)


@contextmanager
def open_picture(source: Path | IO[bytes], name: str | None = None) -> Iterator[Image.Image]:
    """Open an untrusted image; its pixels are not decoded yet.

    Args:
        source: a path, or an open file.
        name: its name, whose suffix counts for `NAMED_FORMATS`; the path by default.

    Raises:
        OSError: there is no such file, or its format is not in `FORMATS`.
        ValueError: the header has more than `MOST_PIXELS`.
    """
    try:
        suffix = PurePath(name or (source if isinstance(source, Path) else "")).suffix.lower()
        named = [NAMED_FORMATS[suffix]] if suffix in NAMED_FORMATS else []
        opened = Image.open(source, formats=[*FORMATS, *named])
    except Image.DecompressionBombError as error:  # Pillow's own limit, 179 million pixels by default
        raise ValueError(str(error)) from error
    with opened as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"it is of {width} x {height} pixels; it should have {MOST_PIXELS:,} at most")
        yield image


def orientation(image: Image.Image) -> int:
    """Return EXIF's orientation of an image of Pillow, from 1 to 8; 1 where its EXIF data are missing or broken.

    Of TIFF files, too, it is 1: Pillow turns them as it loads their pixels.

    Raises:
        OSError: a PNG file is broken. Its EXIF data may follow its pixels, so that these must be decoded first.
    """
    if image.format == "TIFF":
        return 1
    if image.format == "PNG":
        image.load()  # here, and not within `getexif`: broken pixels are no broken EXIF data
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # of many types; other viewers show such an image as it is stored
        return 1
    return found if found in TURNS else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the height and width of an image of Pillow once it is turned; most formats need not be decoded."""
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and XMP in tags and ORIENTATION not in tags:
        image.load()  # which may turn it by its XMP data, and then changes its size
    return image.size if orientation(image) >= 5 else image.size[::-1]


def to_pixels(image: Image.Image, *, grayscale: bool, background: Background = "white") -> Tensor:
    """Return an image of Pillow as uint8 `[1 or 3, height, width]`; see `read_image`.

    Raises:
        ValueError: its pixels have no known range, or its transparent colour is lost.
    """
    from torchvision.transforms.v2.functional import pil_to_tensor  # slow to import: `--help` needs only EXTENSIONS

    layout = stored_layout(image)  # before `orientation`, which loads a PNG
    depth, is_inverted = _stored_gray(image)
    # Phones store pixels as the sensor has them, and the orientation in EXIF; Pillow does not apply it by itself. Not
    # ImageOps.exif_transpose, which also writes new EXIF data, and fails where another value among them is broken.
    turn = TURNS.get(orientation(image))
    upright = image if turn is None else image.transpose(turn)
    opacity = None if background == HIDDEN else opacity_of(upright, layout)
    upright = _as_8_bit(upright, depth, is_inverted=is_inverted)
    if upright.mode in ("P", "PA"):
        # Through RGBA: for palettes with transparent entries Pillow warns of any other way.
        upright = upright.convert("RGBA")
    if opacity is not None:
        upright = on_background(upright, opacity, background)
    pixels: Tensor = pil_to_tensor(upright.convert("L" if grayscale else "RGB"))
    return pixels


def _stored_gray(image: Image.Image) -> tuple[int, bool]:
    """Return how many bits the pixels of an image in mode I;16 have, and whether 0 is white; Pillow heeds neither.

    Raises:
        ValueError: they are signed numbers of 8 or 16 bits, which Pillow takes for unsigned ones or for 32 bits.
    """
    if not isinstance(image, TiffImageFile):
        return 16, False
    tags = image.tag_v2
    bits = tags.get(BITSPERSAMPLE, (1,))[0]
    if 2 in tags.get(SAMPLEFORMAT, ()) and bits <= 16:
        raise ValueError("its pixels are signed numbers of no known range; unsigned ones of 8 or 16 bits are read")
    return min(bits, 16), tags.get(PHOTOMETRIC_INTERPRETATION) == 0


def _as_8_bit(image: Image.Image, depth: int, *, is_inverted: bool) -> Image.Image:
    """Return an image with 8 bits per channel: the upper bits of deeper pixels, which `convert` would clip at 255.

    Args:
        image: an image of Pillow.
        depth: bits of its pixels, if these are deeper.
        is_inverted: their 0 is white.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range; pixels of 8 or 16 bits are read")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise ValueError("its pixels are 32-bit numbers of no known range; pixels of 8 or 16 bits are read")
    upper = (values >> (depth - 8)).astype(np.uint8)
    return Image.fromarray(255 - upper if is_inverted else upper)
