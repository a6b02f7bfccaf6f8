"""Draw objects over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import ImageDraw
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.figures import BLACK, Rect, class_color, draw_captions

OPACITY = 0.45
DRAWN_SCORE = 0.5
"""Least score of an object that is drawn, and counted in the confusion matrix."""


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
        masks = TF.resize(objects.masks.to(torch.uint8), size, TF.InterpolationMode.NEAREST_EXACT).bool()
        for mask, color in zip(masks, colors, strict=True):
            drawn = _tint(drawn, mask, color)
    canvas = TF.to_pil_image(drawn)
    draw, line = ImageDraw.Draw(canvas), max(round(min(size) / 160), 1)
    boxes = [_on_canvas(box, canvas.size) for box in (objects.boxes * factor).tolist()]
    # A dark rim on both sides of a line, so that it is seen on a picture of its own colour.
    for rim, width_of in ((True, line + 2), (False, line)):
        for box, color in zip(boxes, colors, strict=True):
            grown = int(rim)
            outline = (box.left - grown, box.top - grown, box.right + grown, box.bottom + grown)
            draw.rectangle(outline, outline=BLACK if rim else color, width=width_of)
    draw_captions(canvas, boxes, objects.captions, colors)
    out: Tensor = TF.pil_to_tensor(canvas)
    return out


def _on_canvas(box: Sequence[float], size: tuple[int, int]) -> Rect:
    """Return the pixels of a box that a line around it takes, all of them on a canvas of some width and height."""
    width, height = size
    left, right = sorted(min(max(round(x), 0), width - 1) for x in (box[0], box[2] - 1))
    top, bottom = sorted(min(max(round(y), 0), height - 1) for y in (box[1], box[3] - 1))
    return Rect(left, top, right, bottom)


def _tint(image: Tensor, mask: Tensor, color: tuple[int, int, int]) -> Tensor:
    """Return an image with a colour over a mask; torchvision's function paints the overlap of two masks black."""
    tinted = (1 - OPACITY) * image + OPACITY * torch.tensor(color)[:, None, None]
    return torch.where(mask, tinted.round().to(torch.uint8), image)
