"""Find and count faulty label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from eyetoy_image.io.files import open_picture, read_image
from eyetoy_image.io.hub import PictureFile, is_there, opened
from eyetoy_image.segmentation.datasets.label_maps import BadLabelMapError, Kind, LabelTable, read_labels
from eyetoy_image.segmentation.datasets.label_set import LabelledPicture

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""EXIF's tag, and its values for images whose height and width are swapped."""


def find_bad(
    pictures: Sequence[LabelledPicture], table: LabelTable, *, open_files: bool = False
) -> dict[LabelledPicture, BadLabelMapError]:
    """Read every label map of a split, and return the errors.

    Args:
        pictures: the split.
        table: the classes of the values of label maps.
        open_files: decode the image files too, which takes longer.
    """
    found = {picture: _look(picture, table, open_files=open_files) for picture in pictures}
    return {picture: error for picture, error in found.items() if error is not None}


def summary(place: str, pictures: Sequence[LabelledPicture], errors: Sequence[BadLabelMapError]) -> str:
    """Return the numbers of errors by kind, in a line."""
    counts = Counter(error.kind for error in errors)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in get_args(Kind) if counts[kind])
    return f"{place}: {len(pictures)} pictures; wrong: {kinds or 'none'}"


def _look(picture: LabelledPicture, table: LabelTable, *, open_files: bool) -> BadLabelMapError | None:
    try:
        read_labels(picture.map, table, _grid(picture.path, open_files=open_files))
    except BadLabelMapError as error:
        return error
    return None


def _grid(file: PictureFile, *, open_files: bool) -> tuple[int, int]:
    """Return the height and width of an image after its EXIF rotation."""
    if not is_there(file):
        raise BadLabelMapError("missing picture", file, "there is a label map of that name, but no picture")
    try:
        if open_files:
            read_image(opened(file), grayscale=False, name=str(file))
        with open_picture(opened(file)) as image:
            # From the header: decoding all images of a large set only for their sizes would take an hour.
            sideways = image.getexif().get(ORIENTATION) in SIDEWAYS
            return image.size if sideways else image.size[::-1]
    except (ValueError, OSError) as error:  # Pillow recognizes a file that is not an image by its first bytes
        raise BadLabelMapError("broken picture", file, str(error)) from error
