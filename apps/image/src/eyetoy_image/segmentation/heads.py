"""Heads that turn the maps of a pyramid into logits of every pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy_image.segmentation.recipe import SegmenterRecipe

MOST_GROUPS, LEAST_WIDTH = 32, 8
"""Most groups of a group norm, and least channels of each: a grid of one pixel has only these to normalize over."""


class UperNet(nn.Module):
    """The head of unified perceptual parsing (Xiao et al., ECCV 2018, section 3.1) for one task.

    The last map goes through pyramid pooling (Zhao et al., CVPR 2017, section 3.2); from there a feature pyramid
    network goes down to the finest map, and all its levels are fused at that size.

    Args:
        in_channels: channels of the maps, fine to coarse.
        num_classes: number of logits.
        recipe: widths, norm and dropout.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, recipe: SegmenterRecipe) -> None:
        super().__init__()
        width, norm = recipe.channels, recipe.norm
        self.pooling = PyramidPooling(in_channels[-1], recipe)
        self.laterals = nn.ModuleList(conv_norm(channels, width, 1, norm) for channels in in_channels[:-1])
        self.smoothing = nn.ModuleList(conv_norm(width, width, 3, norm) for _ in in_channels[:-1])
        self.fusion = conv_norm(width * len(in_channels), width, 3, norm)
        self.classify = nn.Sequential(nn.Dropout2d(recipe.dropout), nn.Conv2d(width, num_classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map `[batch, channels, height, width]` each, fine to coarse, to logits of the finest one's size."""
        levels = [self.pooling(maps[-1])]
        # Coarse to fine: each level is its map plus the enlarged level above it.
        for x, lateral in zip(reversed(maps[:-1]), reversed(self.laterals), strict=True):
            levels.insert(0, lateral(x) + resized(levels[0], x))
        smoothed = [*(smooth(x) for smooth, x in zip(self.smoothing, levels[:-1], strict=True)), levels[-1]]
        logits: Tensor = self.classify(self.fusion(torch.cat([resized(x, smoothed[0]) for x in smoothed], 1)))
        return logits


class PyramidPooling(nn.Module):
    """Fuse a map with its means over grids of a few cells (Zhao et al., CVPR 2017, section 3.2)."""

    def __init__(self, in_channels: int, recipe: SegmenterRecipe) -> None:
        super().__init__()
        width, norm, scales = recipe.channels, recipe.norm, recipe.pool_scales
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), conv_norm(in_channels, width, 1, norm)) for scale in scales
        )
        self.fusion = conv_norm(in_channels + width * len(scales), width, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[batch, channels, height, width]` to a map of the same size."""
        out: Tensor = self.fusion(torch.cat([x, *(resized(branch(x), x) for branch in self.branches)], 1))
        return out


class LinearHead(nn.Module):
    """A linear layer over the maps of all stages, enlarged to the finest one's size and concatenated.

    Computed as the sum of a linear layer for each stage, whose logits are enlarged: the same numbers with less work,
    because enlarging is linear, too.

    Args:
        in_channels: channels of the maps, fine to coarse.
        num_classes: number of logits.
        dropout: fraction of the channels that are dropped.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        # The sum needs one bias only.
        self.classify = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 1, bias=level == 0) for level, channels in enumerate(in_channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map `[batch, channels, height, width]` each, fine to coarse, to logits of the finest one's size."""
        logits = [classify(self.dropout(x)) for classify, x in zip(self.classify, maps, strict=True)]
        return torch.stack([resized(x, logits[0]) for x in logits]).sum(0)


def fcn_head(in_channels: int, num_classes: int, recipe: SegmenterRecipe) -> nn.Sequential:
    """Return the auxiliary head of one convolution (Long et al., CVPR 2015), as in MMSegmentation."""
    width = recipe.auxiliary_channels
    return nn.Sequential(
        conv_norm(in_channels, width, 3, recipe.norm), nn.Dropout2d(recipe.dropout), nn.Conv2d(width, num_classes, 1)
    )


def conv_norm(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> nn.Sequential:
    """Return a convolution that keeps the size, a norm (`batch` or `group`) and a ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    # The largest number of groups that divides the channels: 32 for 256 and more, 8 for 64.
    groups = math.gcd(MOST_GROUPS, max(out_channels // LEAST_WIDTH, 1))
    normalize = nn.GroupNorm(groups, out_channels) if norm == "group" else nn.BatchNorm2d(out_channels)
    return nn.Sequential(conv, normalize, nn.ReLU(inplace=True))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Return maps resized to the height and width of `like`."""
    grid = like.shape[-2:]
    return x if x.shape[-2:] == grid else F.interpolate(x, grid, mode="bilinear", align_corners=False)
