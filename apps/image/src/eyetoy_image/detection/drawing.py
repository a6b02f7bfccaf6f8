"""Pictures with objects drawn over them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib import font_manager
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from torchvision.utils import draw_bounding_boxes

GOLDEN_RATIO = 0.618
OPACITY = 0.45


@dataclass(frozen=True)
class Objects:
    """What is on a picture."""

    boxes: Tensor
    """`[objects, 4]`: left, top, right and bottom."""
    labels: Tensor
    """`[objects]`, from 1 on."""
    captions: Sequence[str]
    masks: Tensor | None = None
    """Bool `[objects, height, width]`."""


def draw_objects(image: Tensor, objects: Objects, *, least_side: int = 0) -> Tensor:
    """Return a picture with boxes, captions and masks; objects of one class have one colour.

    Args:
        image: uint8 `[3, height, width]`.
        objects: what is on it.
        least_side: enlarge the picture so that its short side has this many pixels, for captions to be read.
    """
    height, width = image.shape[-2:]
    factor = max(least_side / min(height, width), 1.0)
    size = [round(height * factor), round(width * factor)]
    drawn: Tensor = TF.resize(image, size, antialias=True)
    if not len(objects.boxes):
        return drawn
    colors = [_color(int(label)) for label in objects.labels]
    if objects.masks is not None:
        masks = TF.resize(objects.masks.to(torch.uint8), size, TF.InterpolationMode.NEAREST).bool()
        for mask, color in zip(masks, colors, strict=True):
            drawn = _tint(drawn, mask, color)
    out: Tensor = draw_bounding_boxes(
        drawn,
        objects.boxes * factor,
        list(objects.captions),
        colors,
        width=max(round(min(size) / 250), 1),
        font=font_manager.findfont("DejaVu Sans"),
        font_size=max(round(min(size) / 30), 9),
    )
    return out


def tile(pictures: Sequence[Tensor], columns: int) -> Tensor:
    """Return pictures of any sizes in a grid on white."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    rows = -(-len(pictures) // columns)
    sheet = torch.full((3, rows * height, columns * width), 255, dtype=torch.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * height, place % columns * width
        sheet[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return sheet


def _tint(image: Tensor, mask: Tensor, color: tuple[int, int, int]) -> Tensor:
    """Return a picture with a colour over a mask; torchvision's function makes black what two masks share."""
    tinted = (1 - OPACITY) * image + OPACITY * torch.tensor(color)[:, None, None]
    return torch.where(mask, tinted.round().to(torch.uint8), image)


def _color(label: int) -> tuple[int, int, int]:
    """Return a bright colour; those of neighboring labels are far apart."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
