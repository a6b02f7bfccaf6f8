"""Random changes to a whole batch at once, on the model's device, each picture by draws of its own.

To move pictures one by one, where they are loaded, took a fifth of a training step of a small model; here it takes
one `grid_sample` for all. A picture's changes depend on its seed alone, not on the batch that it is in.
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
MOVE_DRAWS, ERASE_DRAWS = 5, 5


class BatchAugmentation:
    """Rotation, translation, scaling and flips, then erasing, as the recipe says.

    Args:
        recipe: what to do.
        black: value of a black pixel, with which a picture is surrounded.
    """

    def __init__(self, recipe: ImageAugmentation, black: float) -> None:
        self.recipe = recipe
        self.black = black
        self.limits = torch.tensor(
            [math.radians(recipe.rotation), recipe.translation, recipe.translation, recipe.scaling]
        )

    def __call__(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Change square pictures, float `[batch, channels, size, size]`, by the draws of `seeds`, `[batch]`."""
        if not self.recipe.moves and not self.recipe.erasing:
            return x
        draws = uniforms(seeds, MOVE_DRAWS + (ERASE_DRAWS if self.recipe.erasing else 0))
        if self.recipe.moves:
            # Mixed precision would misplace pixels: in bfloat16 places near the border are half a pixel apart.
            with torch.autocast(x.device.type, enabled=False):
                x = self._move(x, draws[:, :MOVE_DRAWS])
        if self.recipe.erasing:
            x = x.masked_fill(self._erased(x.shape[-1], draws[:, MOVE_DRAWS:])[:, None], 0.0)
        return x

    def _move(self, x: Tensor, draws: Tensor) -> Tensor:
        size = x.shape[-1]
        moves = (2 * draws[:, :4] - 1) * self.limits.to(draws.device)
        # By whole pixels: a picture that is only shifted or mirrored is not blurred.
        shift = (moves[:, 1:3] * size).round() * (2 / size)
        angle, shrink = moves[:, 0], 1 / (1 + moves[:, 3])
        cos, sin = shrink * angle.cos(), shrink * angle.sin()
        mirror = 1 - 2 * (draws[:, 4] < self.recipe.flip).to(draws.dtype)
        turn = torch.stack([mirror * cos, mirror * sin, -sin, cos], 1).view(-1, 2, 2)
        # Where a pixel comes from: back by the shift, turned back, shrunk or grown back, mirrored.
        sources = turn @ (_places(size, draws.device) - shift[:, :, None])  # [batch, xy, pixels]
        grid = sources.mT.reshape(-1, size, size, 2).to(x.dtype)
        return F.grid_sample(x - self.black, grid, align_corners=False) + self.black

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


@lru_cache(maxsize=8)
def _places(size: int, device: torch.device) -> Tensor:
    """Return x and y of all pixels as `grid_sample` counts them, from -1 to 1, `[xy, pixels]`."""
    places = (2 * torch.arange(size, device=device) + 1) / size - 1
    return torch.stack([places.repeat(size), places.repeat_interleave(size)])


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
