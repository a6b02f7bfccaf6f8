"""Random changes to a training picture together with its label map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.segmentation.datasets.label_maps import IGNORED
from eyetoy_image.segmentation.recipe import SegmentationAugmentation

TRIES = 10
GREY = 128
"""Of what is padded to a picture: the mean that pictures are normalised by."""


def fitted_size(
    grid: tuple[int, ...], short_side: int | None, long_side: int | None, scale: float = 1.0
) -> tuple[int, int]:
    """Return the height and width to which a picture is resized.

    Args:
        grid: its height and width.
        short_side: what its short side should be; as it is if not given.
        long_side: what its long side may be at most then.
        scale: factor on top.
    """
    height, width = grid
    factor = 1.0 if short_side is None else short_side / min(height, width)
    if long_side is not None:
        factor = min(factor, long_side / max(height, width))
    return max(round(height * factor * scale), 1), max(round(width * factor * scale), 1)


class TrainingTransform:
    """Resize a picture by a random factor, crop a random square of it, flip and recolour it.

    Draws from torch's global generator.

    Args:
        augmentation: what to do.
        short_side: what the short side is resized to before the random factor; not resized if not given.
        long_side: what the long side may be at most then.
    """

    def __init__(
        self, augmentation: SegmentationAugmentation, short_side: int | None = None, long_side: int | None = None
    ) -> None:
        self.augmentation = augmentation
        self.sides = (short_side, long_side)
        fill: dict[Any, int] = {tv_tensors.Image: GREY, tv_tensors.Mask: IGNORED}
        self.crop = v2.RandomCrop(augmentation.crop_size, pad_if_needed=True, fill=fill)
        steps: list[Any] = [v2.RandomHorizontalFlip(augmentation.flip)]
        if augmentation.color:
            steps.append(v2.RandomPhotometricDistort(p=augmentation.color))
        self.steps = v2.Compose(steps)

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Change a picture, uint8 `[3, height, width]`, and its labels, uint8 `[height, width]`."""
        low, high = self.augmentation.scale
        scale = low + (high - low) * float(torch.rand(()))
        grid = fitted_size(tuple(image.shape[-2:]), *self.sides, scale)
        pair = (
            tv_tensors.Image(TF.resize(image, list(grid), antialias=True)),
            tv_tensors.Mask(TF.resize(labels[None], list(grid), TF.InterpolationMode.NEAREST_EXACT)),
        )
        changed, mask = self.steps(*self._cropped(*pair))
        return changed.as_subclass(Tensor), mask.as_subclass(Tensor)[0]

    def _cropped(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        cropped: tuple[Tensor, Tensor] = self.crop(image, mask)
        for _ in range(TRIES):
            if self.augmentation.cat_max_ratio == 1 or largest_share(cropped[1]) < self.augmentation.cat_max_ratio:
                break
            cropped = self.crop(image, mask)
        return cropped


def largest_share(labels: Tensor) -> float:
    """Return the share of the most frequent class of the labelled pixels; 1 where there are none."""
    counts = torch.bincount(labels.as_subclass(Tensor).flatten().long(), minlength=IGNORED + 1)[:IGNORED]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
