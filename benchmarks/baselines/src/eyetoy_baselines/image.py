"""A baseline of Encoder2D: the compact convolutional transformer, made for small pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eyetoy_baselines.transformer import init_linear, vit_blocks


class CCT(nn.Module):
    """A vision transformer over the output of convolutions, which pools its tokens by attention.

    Escaping the big data paradigm with compact transformers (Hassani et al., 2021). By default it is CCT-7/3x1 for
    pictures of 32 pixels: 7 blocks after one convolution of 3 x 3. Unlike the paper's, queries, keys and values have
    biases, and no attention weight is dropped.

    Args:
        num_classes: how many logits.
        in_channels: of the pictures.
        grid: height and width of the pictures, for which positions are learned.
        convolutions: how many, each followed by ReLU and by max pooling, which halves the grid; all but the last have
            64 channels.
        kernel_size: of the convolutions.
        dim: channels of the tokens, a multiple of `num_heads`.
        depth: how many blocks.
        num_heads: how many attention heads.
        mlp_ratio: hidden channels of the feed-forward part, in multiples of `dim`.
        dropout: share of the channels to drop before the head.
        drop_path: stochastic depth of the last block, growing linearly from 0 at the first; 0.1 in the paper.

    Raises:
        ValueError: `dim` does not fit `num_heads`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        grid: Sequence[int] = (32, 32),
        convolutions: int = 1,
        kernel_size: int = 3,
        dim: int = 256,
        depth: int = 7,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim is {dim}; it should be a multiple of num_heads, {num_heads}")
        widths = [in_channels, *[64] * (convolutions - 1), dim]
        self.tokenizer = nn.Sequential(
            *(_convolution(narrow, wide, kernel_size) for narrow, wide in itertools.pairwise(widths))
        )
        tokens = math.prod(-(-side // 2**convolutions) for side in grid)  # pooling rounds up
        self.positions = nn.Parameter(torch.empty(tokens, dim))
        self.blocks = vit_blocks(dim, depth, num_heads, round(dim * mlp_ratio), drop_path)
        self.norm = nn.LayerNorm(dim)
        self.weigh = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, num_classes)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.positions, std=0.2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[batch, in_channels, height, width]` to `[batch, num_classes]`."""
        tokens = self.tokenizer(x).flatten(2).transpose(1, 2)  # [batch, tokens, dim]
        tokens = self.norm(self.blocks(tokens + self.positions))
        pooled = (self.weigh(tokens).softmax(1) * tokens).sum(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def _convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight)
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(3, 2, 1))


def build_baseline(name: str, arguments: dict[str, Any], grid: Sequence[int] | None = None) -> nn.Module:
    """Return a baseline for a recipe, the `Build` of the family `baseline`.

    Args:
        name: name of the baseline, "cct".
        arguments: the recipe's.
        grid: height and width of the pictures.

    Raises:
        ValueError: there is no such model, or it does not take one of the options.
    """
    if name != "cct":
        raise ValueError(f"there is no baseline named {name!r}; there is cct")
    size = {} if grid is None else {"grid": tuple(grid)}
    try:
        return CCT(**(size | arguments))
    except TypeError as error:
        raise ValueError(f"options {arguments} do not fit {name}: {error}") from error
