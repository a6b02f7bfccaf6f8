"""From pixels to the encoder's input, with or without augmentation."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.transforms import v2

from eyetoy_image.classification.recipe import ImageAugmentation

MEAN, STD = 0.5, 0.25
"""Pixels from 0 to 1 are normalised to (pixel - MEAN) / STD."""


def evaluation_transform(image_size: int) -> nn.Module:
    """Return a transform from uint8 `[channels, height, width]` to float `[channels, image_size, image_size]`."""
    return _compose([*_resize(image_size), *_to_float()])


def training_transform(image_size: int, augmentation: ImageAugmentation) -> nn.Module:
    """Return the same with random changes, drawn from torch's global generator."""
    steps: list[nn.Module] = []
    if augmentation.crop > 0:
        steps.append(v2.RandomResizedCrop(image_size, scale=(1 - augmentation.crop, 1.0), antialias=True))
    else:
        steps += _resize(image_size)
    if augmentation.flip > 0:
        steps.append(v2.RandomHorizontalFlip(augmentation.flip))
    if augmentation.rotation or augmentation.translation or augmentation.scaling:
        steps.append(
            v2.RandomAffine(
                degrees=augmentation.rotation,
                translate=(augmentation.translation, augmentation.translation),
                scale=(1 - augmentation.scaling, 1 + augmentation.scaling),
                interpolation=v2.InterpolationMode.BILINEAR,
            )
        )
    return _compose([*steps, *_to_float()])


def _compose(steps: list[nn.Module]) -> nn.Module:
    composed: nn.Module = v2.Compose(steps)
    return composed


def _resize(image_size: int) -> list[nn.Module]:
    return [v2.Resize(image_size, antialias=True), v2.CenterCrop(image_size)]


def _to_float() -> list[nn.Module]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize([MEAN], [STD])]
