"""Find and count faulty label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np

from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.io.files import open_picture, read_image, upright_size
from eyetoy_image.io.hub import PictureFile, is_there, opened
from eyetoy_image.segmentation.datasets.label_maps import (
    IGNORED,
    UNKNOWN,
    BadLabelMapError,
    Kind,
    LabelTable,
    read_fitting_values,
)
from eyetoy_image.segmentation.datasets.label_set import LabelledPicture

MOST_VOID = 5
"""Largest number of unknown values that may be void."""


def find_bad(
    pictures: Sequence[LabelledPicture],
    table: LabelTable,
    *,
    open_files: bool = False,
    pixels: Counter[int] | None = None,
) -> dict[LabelledPicture, BadLabelMapError]:
    """Read every label map of a split, and return the errors.

    Args:
        pictures: the split.
        table: the classes of the values of label maps.
        open_files: decode the image files too, which takes longer.
        pixels: takes the number of pixels of every value on the valid maps.
    """
    counts = Counter[int]() if pixels is None else pixels
    found = {picture: _look(picture, table, counts, open_files=open_files) for picture in pictures}
    return {picture: error for picture, error in found.items() if error is not None}


def summary(place: str, pictures: Sequence[LabelledPicture], errors: Sequence[BadLabelMapError]) -> str:
    """Return the numbers of errors by kind, in a line."""
    counts = Counter(error.kind for error in errors)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in get_args(Kind) if counts[kind])
    return f"{place}: {len(pictures)} pictures; wrong: {kinds or 'none'}"


def ignored_summary(place: str, table: LabelTable, pixels: Counter[int]) -> str:
    """Return a line with the values that are ignored and their share of the pixels; empty if none occurs."""
    ignored = sorted(value for value in pixels if table.labels[value] == IGNORED)
    if not ignored:
        return ""
    share = sum(pixels[value] for value in ignored) / pixels.total()
    return f"{place}: {share:.1%} of the pixels are ignored, those of value {', '.join(map(str, ignored))}"


def void_hint(place: str, table: LabelTable, errors: Sequence[BadLabelMapError], pixels: Counter[int]) -> str:
    """Return a line on values that are no class, with the option that ignores them; empty if there are none.

    Args:
        place: the split, for the message.
        table: the classes of the values of label maps.
        errors: those of the split.
        pixels: the number of pixels of every value on the valid maps.
    """
    unknown = [error for error in errors if error.pixels]
    total = sum((Counter(error.pixels) for error in unknown), pixels.copy())
    values = sorted(value for value in total if not 0 <= value <= 255 or table.labels[value] == UNKNOWN)
    if not values or len(values) > MOST_VOID or not 0 <= values[0] <= values[-1] <= 255:
        return ""  # so many are no void, but numbers of objects, or maps of another set
    ignored = [*values, *(value for value in range(256) if table.labels[value] == IGNORED)]
    noun, verb = ("value", "is") if len(values) == 1 else ("values", "are")
    share = sum(total[value] for value in values) / total.total()
    return (
        f"{place}: {noun} {', '.join(map(str, values))} in {len(unknown):,} maps ({share:.1%} of the pixels) {verb} no "
        f"class; where that means no label, add --data.ignored '{sorted(ignored)}'"
    )


def refuse_one_class(place: str, table: LabelTable, pixels: Counter[int]) -> None:
    """Refuse training maps that have one class at most beside what is ignored, such as binary masks of 0 and 255.

    A model that always says this class would be right on every pixel that counts.

    Raises:
        BadAnnotationsError: the maps are so. The message names the option that makes an ignored value a class.
    """
    classes = sorted(value for value in pixels if table.labels[value] != IGNORED)
    if len(classes) > 1 or not pixels:  # without pixels all maps are bad, which is said of each
        return
    ignored = sorted(pixels.keys() - classes)
    noun = "value" if len(pixels) == 1 else "values"
    told = f"{place}: the label maps have the {noun} {' and '.join(map(str, sorted(pixels)))} alone"
    if not ignored:
        raise BadAnnotationsError(f"{told}: there is no second class to learn")
    verb = "is" if len(ignored) == 1 else "are"
    told += f", and {' and '.join(map(str, ignored))} {verb} ignored: there is no second class to learn"
    if 255 in ignored:
        raise BadAnnotationsError(
            f"{told}. Where 255 is a class, as in binary masks, data.values: {[*(classes or [0]), 255]} says so"
        )
    raise BadAnnotationsError(f"{told}. Values of data.ignored are no class, not the background")


def _look(
    picture: LabelledPicture, table: LabelTable, pixels: Counter[int], *, open_files: bool
) -> BadLabelMapError | None:
    try:
        values = read_fitting_values(picture.map, _grid(picture.path, open_files=open_files))
        table(values, picture.map)
    except BadLabelMapError as error:
        return error
    counts = np.bincount(values.ravel(), minlength=256)  # the table refused values outside of 0 to 255
    pixels.update({int(value): int(counts[value]) for value in np.flatnonzero(counts)})
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
            return upright_size(image)
    except (ValueError, OSError) as error:  # Pillow recognizes a file that is not an image by its first bytes
        raise BadLabelMapError("broken picture", file, str(error)) from error
