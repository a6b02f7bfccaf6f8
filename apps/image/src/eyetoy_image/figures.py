"""What pictures with predictions on them share."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN_RATIO = 0.618


def class_color(label: int) -> tuple[int, int, int]:
    """Return a bright colour; those of neighboring labels are far apart."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def tile(pictures: Sequence[Tensor], columns: int) -> Tensor:
    """Return pictures of any sizes in a grid on white."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    rows = -(-len(pictures) // columns)
    sheet = torch.full((3, rows * height, columns * width), 255, dtype=torch.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * height, place % columns * width
        sheet[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return sheet
