"""Colours of classes, and tiles of images, for figures of predictions."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN_RATIO = 0.618  # steps of it around the circle of hues never come near an earlier one


def class_color(label: int) -> tuple[int, int, int]:
    """Return a bright colour for a label; neighboring labels have very different ones."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def tile(images: Sequence[Tensor], columns: int) -> Tensor:
    """Return images of any sizes in a grid on white."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    rows = -(-len(images) // columns)  # rounded up
    sheet = torch.full((3, rows * height, columns * width), 255, dtype=torch.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * height, place % columns * width
        sheet[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return sheet
