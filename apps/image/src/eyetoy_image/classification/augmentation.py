"""Random changes to a whole batch at once, on the model's device, each picture by draws of its own.

To move pictures one by one, where they are loaded, took a fifth of a training step of a small model; here it takes
one `grid_sample` for all. A picture's changes depend on its seed alone, not on the batch that it is in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from eyetoy_image.classification.recipe import ImageAugmentation
from eyetoy_train.seeds import uniforms

ERASED_ASPECT = 3.3
NUM_DRAWS = 10


@dataclass(frozen=True)
class BatchAugmentation:
    """Rotation, translation, scaling and flips, then erasing, as the recipe says.

    Args:
        recipe: what to do.
        black: value of a black pixel, with which a picture is surrounded.
    """

    recipe: ImageAugmentation
    black: float

    def __call__(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Change square pictures, float `[batch, channels, size, size]`, by the draws of `seeds`, `[batch]`."""
        draws = uniforms(seeds, NUM_DRAWS)
        if self.recipe.moves:
            x = self._move(x, draws[:, :5])
        if self.recipe.erasing:
            x = x.masked_fill(self._erased(x.shape[-1], draws[:, 5:])[:, None], 0.0)
        return x

    def _move(self, x: Tensor, draws: Tensor) -> Tensor:
        recipe, size = self.recipe, x.shape[-1]
        angle, right, down, grow = (2 * draws[:, :4] - 1).unbind(1)
        angle = angle * math.radians(recipe.rotation)
        # By whole pixels: a picture that is only shifted or mirrored is not blurred.
        right, down = ((shift * recipe.translation * size).round() * (2 / size) for shift in (right, down))
        shrink = 1 / (1 + recipe.scaling * grow)
        mirror = torch.where(draws[:, 4] < recipe.flip, -1.0, 1.0)
        cos, sin = shrink * angle.cos(), shrink * angle.sin()
        # Where a pixel comes from: back by the shift, turned back, shrunk or grown back, mirrored.
        row_x = torch.stack([mirror * cos, mirror * sin, -mirror * (cos * right + sin * down)], 1)
        row_y = torch.stack([-sin, cos, sin * right - cos * down], 1)
        grid = F.affine_grid(torch.stack([row_x, row_y], 1), list(x.shape), align_corners=False)
        return F.grid_sample(x - self.black, grid.to(x.dtype), align_corners=False) + self.black

    def _erased(self, size: int, draws: Tensor) -> Tensor:
        """Choose a rectangle in some pictures, as Random Erasing (Zhong et al., AAAI 2020) does; `[batch, y, x]`."""
        chosen, area, aspect, top, left = draws.unbind(1)
        low, high = self.recipe.erased_area
        area = low + (high - low) * area
        aspect = ((2 * aspect - 1) * math.log(ERASED_ASPECT)).exp()
        height, width = ((area * ratio).sqrt().clamp_max(1) for ratio in (aspect, 1 / aspect))
        places = (torch.arange(size, device=draws.device) + 0.5) / size
        rows, columns = (
            (places >= start[:, None]) & (places < (start + length)[:, None])
            for start, length in ((top * (1 - height), height), (left * (1 - width), width))
        )
        erased: Tensor = (chosen < self.recipe.erasing)[:, None, None] & rows[:, :, None] & columns[:, None, :]
        return erased


def mixing(recipe: ImageAugmentation, num_classes: int) -> nn.Module | None:
    """Return mixup (Zhang et al., 2018), CutMix (Yun et al., 2019), one of both at random, or None, as the recipe says.

    It maps pictures and labels of a batch to pictures and class probabilities, drawn from torch's global generator:
    each process mixes what it has.
    """
    mixes = [
        mix(alpha=alpha, num_classes=num_classes)
        for mix, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
        if alpha
    ]
    return v2.RandomChoice(mixes) if mixes else None
