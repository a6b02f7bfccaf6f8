"""Augment a whole batch at once on the model's device, with random numbers for each image.

Moving images one by one in the loading workers took a fifth of a training step of a small model; here one `grid_sample`
moves all. The changes of an image depend on its seed alone, not on its batch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from eyetoy_image.classification.recipe import ImageAugmentation
from eyetoy_train.utils.seeds import uniforms

ERASED_ASPECT = 3.3
MOVE_NUMBERS, ERASE_NUMBERS = 5, 5
"""Random numbers per image for moving and for erasing."""


class BatchAugmentation:
    """Rotation, translation, scaling and flips, then erasing, as the recipe says.

    Args:
        recipe: probabilities and limits.
        black: value of a black pixel, for the area outside of a moved image.
    """

    def __init__(self, recipe: ImageAugmentation, black: float) -> None:
        self.recipe = recipe
        self.black = black
        self.limits = torch.tensor(
            [math.radians(recipe.rotation), recipe.translation, recipe.translation, recipe.scaling]
        )

    def __call__(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Augment square images, float `[batch, channels, size, size]`, by their `seeds`, `[batch]`."""
        if not self.recipe.moves and not self.recipe.erasing:
            return x
        # The first five numbers of a seed always are for moving, so that erasing changes nothing about them.
        numbers = uniforms(seeds, MOVE_NUMBERS + (ERASE_NUMBERS if self.recipe.erasing else 0))
        if self.recipe.moves:
            # Mixed precision would misplace pixels: in bfloat16 coordinates near the border are half a pixel apart.
            with torch.autocast(x.device.type, enabled=False):
                x = self._move(x, numbers[:, :MOVE_NUMBERS])
        if self.recipe.erasing:
            x = x.masked_fill(self._erased(x.shape[-1], numbers[:, MOVE_NUMBERS:])[:, None], 0.0)
        return x

    def _move(self, x: Tensor, numbers: Tensor) -> Tensor:
        size = x.shape[-1]
        moves = (2 * numbers[:, :4] - 1) * self.limits.to(numbers.device)  # [batch, (angle, x, y, scaling)]
        # By whole pixels: an image that is only shifted or mirrored is not blurred.
        shift = (moves[:, 1:3] * size).round() * (2 / size)
        angle, shrink = moves[:, 0], 1 / (1 + moves[:, 3])
        cos, sin = shrink * angle.cos(), shrink * angle.sin()
        mirror = 1 - 2 * (numbers[:, 4] < self.recipe.flip).to(numbers.dtype)  # -1 or 1
        rotation = torch.stack([mirror * cos, mirror * sin, -sin, cos], 1).view(-1, 2, 2)
        # grid_sample asks where each output pixel comes from, so this is the inverse of the move: shifted back, rotated
        # back, scaled back, mirrored.
        sources = rotation @ (_places(size, numbers.device) - shift[:, :, None])  # [batch, xy, pixels]
        grid = sources.mT.reshape(-1, size, size, 2).to(x.dtype)
        # grid_sample fills with zeros, and black is not zero after the normalization.
        return F.grid_sample(x - self.black, grid, align_corners=False) + self.black

    def _erased(self, size: int, numbers: Tensor) -> Tensor:
        """Return rectangles in some images for Random Erasing (Zhong et al., AAAI 2020), `[batch, y, x]`."""
        chosen, area, aspect, top, left = numbers.unbind(1)
        low, high = self.recipe.erased_area
        area = low + (high - low) * area
        # Uniform in the logarithm from 1 / 3.3 to 3.3, so that tall and wide rectangles are equally likely.
        # A rectangle of a large area would not fit in at such a ratio, and be cut.
        aspect = ((2 * aspect - 1) * (-area.log()).clamp_max(math.log(ERASED_ASPECT))).exp()
        height, width = ((area * ratio).sqrt().clamp_max(1) for ratio in (aspect, 1 / aspect))
        places = (torch.arange(size, device=numbers.device) + 0.5) / size  # centers of pixels, from 0 to 1
        rows, columns = (
            (places >= start[:, None]) & (places < (start + length)[:, None])
            for start, length in ((top * (1 - height), height), (left * (1 - width), width))
        )
        erased: Tensor = (chosen < self.recipe.erasing)[:, None, None] & rows[:, :, None] & columns[:, None, :]
        return erased


@lru_cache(maxsize=8)
def _places(size: int, device: torch.device) -> Tensor:
    """Return x and y of all pixels in `grid_sample`'s coordinates, from -1 to 1, `[xy, pixels]`."""
    # align_corners=False: -1 and 1 are the outer edges of the image. For example size 4: -0.75, -0.25, 0.25, 0.75.
    places = (2 * torch.arange(size, device=device) + 1) / size - 1
    return torch.stack([places.repeat(size), places.repeat_interleave(size)])


def mixing(recipe: ImageAugmentation, num_classes: int) -> nn.Module | None:
    """Return mixup (Zhang et al., 2018), CutMix (Yun et al., 2019), one of both at random, or None, as the recipe says.

    It maps images and labels of a batch to images and class probabilities. Random numbers are from torch's global
    generator; each process mixes its own images.
    """
    mixes = [
        mix(alpha=alpha, num_classes=num_classes)
        for mix, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
        if alpha
    ]
    return v2.RandomChoice(mixes) if mixes else None
