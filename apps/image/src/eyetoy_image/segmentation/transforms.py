"""Augment a training image together with its label map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.dense.colors import RandomColors
from eyetoy_image.segmentation.datasets.label_maps import IGNORED
from eyetoy_image.segmentation.recipe import SegmentationAugmentation

TRIES = 10
GREY = 128
"""Value of padded pixels: about the mean that is subtracted from images."""


def fitted_size(
    grid: tuple[int, ...], short_side: int | None, long_side: int | None, scale: float = 1.0
) -> tuple[int, int]:
    """Return the height and width of a resized image.

    Args:
        grid: height and width of the image.
        short_side: its short side after resizing; unchanged if not given.
        long_side: its largest long side after resizing.
        scale: another factor, applied last.
    """
    height, width = grid
    factor = 1.0 if short_side is None else short_side / min(height, width)
    if long_side is not None:
        factor = min(factor, long_side / max(height, width))
    return max(round(height * factor * scale), 1), max(round(width * factor * scale), 1)


class TrainingTransform:
    """Resize an image by a random factor, crop a random square, flip and recolour it.

    Random numbers are from torch's global generator.

    Args:
        augmentation: probabilities and limits.
        short_side: short side before the random factor; unchanged if not given.
        long_side: largest long side before the random factor.
        crop_side: side of the square, if not the augmentation's own.
    """

    def __init__(
        self,
        augmentation: SegmentationAugmentation,
        short_side: int | None = None,
        long_side: int | None = None,
        crop_side: int = 512,
    ) -> None:
        self.augmentation = augmentation
        self.sides = (short_side, long_side)
        fill: dict[Any, int] = {tv_tensors.Image: GREY, tv_tensors.Mask: IGNORED}  # padding is not learned
        self.crop = v2.RandomCrop(augmentation.crop_size or crop_side, pad_if_needed=True, fill=fill)
        steps: list[Any] = [v2.RandomHorizontalFlip(augmentation.flip)]
        if augmentation.color:
            steps.append(RandomColors(p=augmentation.color))
        self.steps = v2.Compose(steps)

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Transform an image, uint8 `[3, height, width]`, and its labels, uint8 `[height, width]`."""
        low, high = self.augmentation.scale
        scale = low + (high - low) * float(torch.rand(()))
        grid = fitted_size(tuple(image.shape[-2:]), *self.sides, scale)
        pair = (
            tv_tensors.Image(TF.resize(image, list(grid), antialias=True)),
            # Nearest: the mean of two classes is another class. Exact: the plain mode is shifted by half a pixel.
            tv_tensors.Mask(TF.resize(labels[None], list(grid), TF.InterpolationMode.NEAREST_EXACT)),
        )
        changed, mask = self.steps(*self._cropped(*pair))
        return changed.as_subclass(Tensor), mask.as_subclass(Tensor)[0]

    def _cropped(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        cropped: tuple[Tensor, Tensor] = self.crop(image, mask)
        for _ in range(TRIES):
            # As in MMSegmentation: a crop of sky or road alone teaches little.
            if self.augmentation.cat_max_ratio == 1 or largest_fraction(cropped[1]) < self.augmentation.cat_max_ratio:
                break
            cropped = self.crop(image, mask)
        return cropped


def largest_fraction(labels: Tensor) -> float:
    """Return the fraction of the most frequent class among labelled pixels; 1 without any."""
    counts = torch.bincount(labels.as_subclass(Tensor).flatten().long(), minlength=IGNORED + 1)[:IGNORED]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
