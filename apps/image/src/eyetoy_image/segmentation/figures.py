"""Draw label maps."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.figures import class_color
from eyetoy_image.segmentation.datasets.label_maps import IGNORED

OPACITY = 0.6
PALETTE = torch.tensor([*(class_color(label) for label in range(IGNORED)), (0, 0, 0)], dtype=torch.uint8)
"""Colour of every label; ignored pixels are black."""


def draw_labels(image: Tensor, labels: Tensor, *, least_side: int = 0) -> Tensor:
    """Return an image with its label map drawn over it.

    Args:
        image: uint8 `[3, height, width]`.
        labels: uint8 `[height, width]`.
        least_side: enlarge the image so that its short side has this many pixels.
    """
    colors = PALETTE[labels.long()].movedim(-1, 0).float()  # [3, height, width]
    mixed = (image.float() * (1 - OPACITY) + colors * OPACITY).round().to(torch.uint8)
    return enlarged(mixed, least_side)


def enlarged(image: Tensor, least_side: int) -> Tensor:
    """Return an image enlarged to a short side of at least `least_side` pixels."""
    height, width = image.shape[-2:]
    factor = max(least_side / min(height, width), 1.0)
    size = [round(height * factor), round(width * factor)]
    out: Tensor = TF.resize(image, size, TF.InterpolationMode.NEAREST)  # sharp borders of classes
    return out


def to_map_picture(labels: Tensor) -> Image.Image:
    """Return a label map, uint8 `[height, width]`, as an image with a palette, whose indices are the labels."""
    picture = Image.fromarray(labels.numpy())
    picture.putpalette(PALETTE.flatten().tolist())
    return picture
