"""Draw objects over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib import font_manager
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from torchvision.utils import draw_bounding_boxes

from eyetoy_image.figures import class_color
from eyetoy_train.utils.text import shown

OPACITY = 0.45


@dataclass(frozen=True)
class Objects:
    """The objects of an image."""

    boxes: Tensor
    """`[objects, 4]`: left, top, right and bottom."""
    labels: Tensor
    """`[objects]`, from 1 on."""
    captions: Sequence[str]
    masks: Tensor | None = None
    """Bool `[objects, height, width]`."""


def draw_objects(image: Tensor, objects: Objects, *, least_side: int = 0) -> Tensor:
    """Return an image with boxes, captions and masks; objects of one class have one colour.

    Args:
        image: uint8 `[3, height, width]`.
        objects: its objects.
        least_side: enlarge the image to this many pixels of its short side, so that captions are legible.
    """
    height, width = image.shape[-2:]
    factor = max(least_side / min(height, width), 1.0)
    size = [round(height * factor), round(width * factor)]
    drawn: Tensor = TF.resize(image, size, antialias=True)
    if not len(objects.boxes):
        return drawn
    colors = [class_color(int(label)) for label in objects.labels]
    if objects.masks is not None:  # masks first, so that boxes and captions are over them
        masks = TF.resize(objects.masks.to(torch.uint8), size, TF.InterpolationMode.NEAREST).bool()
        for mask, color in zip(masks, colors, strict=True):
            drawn = _tint(drawn, mask, color)
    out: Tensor = draw_bounding_boxes(
        drawn,
        objects.boxes * factor,
        [shown(caption) for caption in objects.captions],
        colors,
        width=max(round(min(size) / 250), 1),
        font=font_manager.findfont("DejaVu Sans"),
        font_size=max(round(min(size) / 30), 9),
    )
    return out


def _tint(image: Tensor, mask: Tensor, color: tuple[int, int, int]) -> Tensor:
    """Return an image with a colour over a mask; torchvision's function paints the overlap of two masks black."""
    tinted = (1 - OPACITY) * image + OPACITY * torch.tensor(color)[:, None, None]
    return torch.where(mask, tinted.round().to(torch.uint8), image)
