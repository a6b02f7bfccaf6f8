"""Reading picture files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


class UnreadableImageError(ValueError):
    """A file that is no picture, or a broken one."""


def read_image(path: Path, *, grayscale: bool) -> Tensor:
    """Return a picture as uint8 `[1 or 3, height, width]`, turned the way its EXIF data say.

    Raises:
        UnreadableImageError: the file is no picture, or a broken one.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            pixels: Tensor = TF.pil_to_tensor(upright.convert("L" if grayscale else "RGB"))
            return pixels
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"cannot read {path} as a picture: {error}") from error
