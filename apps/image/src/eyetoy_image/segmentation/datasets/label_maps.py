"""Read label maps: image files whose pixels are numbers of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyetoy_image.io.background import stored_layout, stretch
from eyetoy_image.io.files import open_picture
from eyetoy_image.io.hub import PictureFile, is_there, opened
from eyetoy_train import UnreadableFileError

IGNORED = 255
"""Label of pixels without a class, which are neither learned nor scored."""
MOST_CLASSES = 255
UNKNOWN = -1
MODES = ("1", "L", "P", "I", "I;16")
"""Modes of Pillow whose pixels are one number each."""

Kind = Literal[
    "missing map",
    "missing picture",
    "broken picture",
    "broken map",
    "colour map",
    "map of another size",
    "unknown value",
]


class BadLabelMapError(UnreadableFileError):
    """A label map is invalid, or does not fit its image. The message names it and its fault."""

    def __init__(self, kind: Kind, file: PictureFile, why: str, pixels: Mapping[int, int] | None = None) -> None:
        super().__init__(f"{kind}: {file}: {why}")
        self.kind: Kind = kind
        self.pixels = pixels or {}
        """The number of pixels of every value, where some are unknown."""


class LabelTable:
    """The class of each value of a label map's pixels.

    Args:
        classes: number of the class, from 0 on, by value; `IGNORED` for none. Other values are errors.
    """

    def __init__(self, classes: Mapping[int, int]) -> None:
        # A table, so that a map of any size is translated by one indexing; int16, since -1 must differ from 255.
        self.labels = np.full(256, UNKNOWN, dtype=np.int16)
        for value, label in classes.items():
            self.labels[value] = label

    def __call__(self, values: NDArray[np.int64], file: PictureFile) -> Tensor:
        """Return labels, uint8 `[height, width]`, of a map's values.

        Raises:
            BadLabelMapError: a value has no class.
        """
        labels = self.labels[values.clip(0, 255)]
        wrong = values[(labels == UNKNOWN) | (values < 0) | (values > 255)]
        if wrong.size:
            known = ", ".join(map(str, np.flatnonzero(self.labels != UNKNOWN)[:3]))
            why = f"{wrong.size} pixels have values such as {wrong[0]}, which is no class; known are {known}, ..."
            found, counts = np.unique(values, return_counts=True)
            pixels = dict(zip(found.tolist(), counts.tolist(), strict=True))
            raise BadLabelMapError("unknown value", file, why, pixels)
        return torch.from_numpy(labels.astype(np.uint8))


def read_values(file: PictureFile) -> NDArray[np.int64]:
    """Return the values of a label map, `[height, width]`: grey values, or indices of a palette.

    Raises:
        BadLabelMapError: the map is missing, broken, or in colour.
    """
    if not is_there(file):
        raise BadLabelMapError("missing map", file, "it is not there")
    try:
        with open_picture(opened(file)) as image:
            # Pillow stretches grey pixels of 2 and 4 bits to 0 to 255: the number 3 of 2 bits becomes 255, "ignored".
            stretched = stretch(stored_layout(image)) if image.mode == "L" else 1
            # Of a palette image (mode P, as in VOC), NumPy gets the indices; `convert` would give colours.
            mode, values = image.mode, np.asarray(image)
    except Exception as error:  # decoders raise errors of many types for damaged bytes
        raise BadLabelMapError("broken map", file, str(error)) from error
    if mode not in MODES:
        raise BadLabelMapError("colour map", file, f"its pixels are {mode}, and should be one number each")
    return values.astype(np.int64) // stretched


def read_fitting_values(file: PictureFile, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Return the values of the label map of an image of size `grid`; see `read_values`.

    Raises:
        BadLabelMapError: the map is invalid, or has another size.
    """
    values = read_values(file)
    if values.shape != grid:
        why = f"it is {values.shape[1]} x {values.shape[0]} pixels, and its picture {grid[1]} x {grid[0]}"
        raise BadLabelMapError("map of another size", file, why)
    return values


def read_labels(file: PictureFile, table: LabelTable, grid: tuple[int, int]) -> Tensor:
    """Return the labels of an image of size `grid`, uint8 `[height, width]`.

    Raises:
        BadLabelMapError: the map is invalid, has another size, or has a value without a class.
    """
    return table(read_fitting_values(file, grid), file)
