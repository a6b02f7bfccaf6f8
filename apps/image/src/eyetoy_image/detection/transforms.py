"""Random changes to a training picture together with its boxes and masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from eyetoy_image.detection.recipe import DetectionAugmentation

LEAST_SIDE = 1.0
"""Pixels; objects that are cropped or made smaller than that are dropped."""


class TrainingTransform:
    """Resize a picture by a random factor, and flip, crop and recolour it, as the recipe says.

    Draws from torch's global generator.

    Args:
        augmentation: what to do.
        long_side: what the long side may be at most, where the short one is resized.
    """

    def __init__(self, augmentation: DetectionAugmentation, long_side: int) -> None:
        steps: list[Any] = []
        if augmentation.color:
            steps.append(v2.RandomPhotometricDistort(p=augmentation.color))
        if augmentation.jitter_size is None:
            steps.append(v2.RandomShortestSize(augmentation.short_sides, max_size=long_side))
        else:
            square = (augmentation.jitter_size, augmentation.jitter_size)
            steps.append(v2.ScaleJitter(square, augmentation.jitter_scale))
            steps.append(v2.RandomCrop(square, pad_if_needed=True))
        if augmentation.flip:
            steps.append(v2.RandomHorizontalFlip(augmentation.flip))
        steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=LEAST_SIDE)]
        self.steps = v2.Compose(steps)

    def __call__(self, image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Change a picture.

        Args:
            image: uint8 `[3, height, width]`.
            target: `boxes` in pixels, `[objects, 4]` of left, top, right and bottom; `labels`, `[objects]`; and, where
                they are needed, `masks`, uint8 `[objects, height, width]`.
        """
        grid = tuple(image.shape[-2:])
        wrapped = target | {"boxes": tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=grid)}
        if "masks" in target:
            wrapped["masks"] = tv_tensors.Mask(target["masks"])
        changed, found = self.steps(tv_tensors.Image(image), wrapped)
        return _plain(changed), {name: _plain(value) for name, value in found.items()}


def _plain(x: Tensor) -> Tensor:
    return x.as_subclass(torch.Tensor)
