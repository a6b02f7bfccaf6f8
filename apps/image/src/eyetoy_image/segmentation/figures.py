"""Draw label maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.figures import LINES, TEXT_SIZE, class_color, with_legend
from eyetoy_image.segmentation.datasets.label_maps import IGNORED

OPACITY = 0.6
PALETTE = torch.tensor([*(class_color(label) for label in range(IGNORED)), (0, 0, 0)], dtype=torch.uint8)
"""Colour of every label; ignored pixels are black."""


def draw_labels(image: Tensor, labels: Tensor, *, least_side: int = 0, clear: Collection[int] = ()) -> Tensor:
    """Return an image with its label map drawn over it: a colour for each class, on grey, and dark lines between them.

    Args:
        image: uint8 `[3, height, width]`.
        labels: uint8 `[height, width]`.
        least_side: enlarge the image so that its short side has this many pixels.
        clear: labels that get no colour, such as that of a background; there the image stays as it is.
    """
    image, labels = enlarged(image, least_side), enlarged(labels[None], least_side)[0]
    colors = PALETTE[labels.long()].movedim(-1, 0).float()  # [3, height, width]
    grey = image.float().mean(0, keepdim=True)  # so that colours come from the classes only
    mixed = (grey * (1 - OPACITY) + colors * OPACITY).round().to(torch.uint8)
    drawn = torch.where(torch.isin(labels, torch.tensor(list(clear), dtype=labels.dtype)), image, mixed)
    return torch.where(_borders(labels), drawn // 4, drawn)


def draw_named_labels(image: Tensor, labels: Tensor, classes: Sequence[str], *, least_side: int = 0) -> Tensor:
    """Return an image with its label map drawn over it, and below it a legend of the classes on it."""
    clear = background(classes)
    names = [(classes[label], label) for label in sorted(colored(labels, clear))]
    drawn = draw_labels(image, labels, least_side=least_side, clear=clear)
    return with_legend(drawn, names, max(min(drawn.shape[1:]) // LINES, TEXT_SIZE))


def _borders(labels: Tensor) -> Tensor:
    """Return the pixels of a label map whose right or lower neighbour has another label, bool `[height, width]`."""
    borders = torch.zeros_like(labels, dtype=torch.bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def background(classes: Sequence[str]) -> frozenset[int]:
    """Return the labels of the classes that are called background: to leave them clear shows the others best."""
    return frozenset(label for label, name in enumerate(classes) if name.strip().lower() == "background")


def colored(labels: Tensor, clear: Collection[int] = ()) -> frozenset[int]:
    """Return the labels on a map that `draw_labels` gives a colour and a name."""
    counts = torch.bincount(labels.flatten().long(), minlength=IGNORED + 1)
    return frozenset(counts.nonzero().flatten().tolist()) - {IGNORED, *clear}


def enlarged(image: Tensor, least_side: int) -> Tensor:
    """Return an image enlarged to a short side of at least `least_side` pixels."""
    height, width = image.shape[-2:]
    factor = max(least_side / min(height, width), 1.0)
    size = [round(height * factor), round(width * factor)]
    out: Tensor = TF.resize(image, size, TF.InterpolationMode.NEAREST_EXACT)  # sharp borders of classes
    return out


def to_map_picture(labels: Tensor) -> Image.Image:
    """Return a label map, uint8 `[height, width]`, as an image with a palette, whose indices are the labels."""
    picture = Image.fromarray(labels.numpy())
    picture.putpalette(PALETTE.flatten().tolist())
    return picture
