"""Baselines of encoders by name: models of timm, torchvision and pytorchvideo, and three defined here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm, set_fused_attn
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from eyetoy import create_model

Grid = tuple[int, ...]
TIMM = {
    "vit_small": "vit_small_patch16_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "convnext_tiny": "convnext_tiny",
    "hiera_tiny": "hiera_tiny_224",
}


def build(name: str, grid: Grid) -> nn.Module:
    """Return a classifier for inputs of this grid, with random weights: of 1000, 35 or 400 classes by dimension."""
    if name.startswith(("eyetoy", "nat_tiny")):
        return create_model(name, num_classes={1: 35, 2: 1000, 3: 400}[len(grid)])
    if name == "vit_small, plain attention":
        set_fused_attn(False)  # a global of timm, which layers read as they are built
        try:
            return build("vit_small", grid)
        finally:
            set_fused_attn(True)
    if name in TIMM:
        options = {} if name == "convnext_tiny" else {"img_size": grid}
        model: nn.Module = timm.create_model(TIMM[name], **options)
        return model
    return _OTHERS[name](grid)


class SoundViT(nn.Module):
    """A ViT (Dosovitskiy et al., 2020) over patches of 10 ms: 12 blocks, global attention."""

    def __init__(self, length: int, width: int = 448, depth: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv1d(1, width, kernel_size=160, stride=160)
        self.positions = nn.Parameter(torch.zeros(length // 160, width))
        self.blocks = nn.Sequential(*(Block(width, num_heads=7, qkv_bias=True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 35)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.blocks(self.patches(x).transpose(1, 2) + self.positions)
        out: Tensor = self.head(self.norm(tokens).mean(1))
        return out


class SoundConvNeXt(nn.Module):
    """A 1-D version of ConvNeXt-T (Liu et al., 2022) with its widths, depths and kernel, without layer scale.

    The stem's stride is 64, as in the encoders for sound, instead of 4.
    """

    def __init__(self, widths: Sequence[int] = (96, 192, 384, 768), depths: Sequence[int] = (3, 3, 9, 3)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, widths[0], kernel_size=64, stride=64)]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if stage:
                layers += [ChannelNorm(widths[stage - 1]), nn.Conv1d(widths[stage - 1], width, kernel_size=2, stride=2)]
            layers += [SoundConvNeXtBlock(width) for _ in range(depth)]
        self.layers, self.norm, self.head = nn.Sequential(*layers), LayerNorm(widths[-1]), nn.Linear(widths[-1], 35)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.layers(x).mean(-1)))
        return out


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of `[batch, channels, length]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class SoundConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.depthwise(x).transpose(1, 2))
        return x + self.contract(F.gelu(self.expand(inner))).transpose(1, 2)


class SpaceTimeViT(nn.Module):
    """A ViT whose tokens, patches of 2 frames of 8 × 8 pixels, attend to all others in space and time.

    Like model 1 of ViViT (Arnab et al., 2021), and TimeSformer's joint attention (Bertasius et al., 2021).
    """

    def __init__(self, grid: Grid, width: int = 192, depth: int = 7) -> None:
        super().__init__()
        patch = (2, 8, 8)
        self.patches = nn.Conv3d(3, width, kernel_size=patch, stride=patch)
        tokens = math.prod(n // p for n, p in zip(grid, patch, strict=True))
        self.positions = nn.Parameter(torch.zeros(tokens, width))
        self.blocks = nn.Sequential(*(Block(width, num_heads=6, qkv_bias=True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 400)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.blocks(self.patches(x).flatten(2).transpose(1, 2) + self.positions)
        out: Tensor = self.head(self.norm(tokens).mean(1))
        return out


def _swin3d(grid: Grid) -> nn.Module:
    model: nn.Module = import_module("torchvision.models.video").swin3d_t(num_classes=400)
    for module in model.modules():
        if isinstance(module, import_module("torchvision.ops").StochasticDepth):
            module.p = 0.0  # the default of timm's models
    return model


def _x3d_m(grid: Grid) -> nn.Module:
    model: nn.Module = import_module("pytorchvideo.models.x3d").create_x3d(
        input_clip_length=grid[0], input_crop_size=grid[1], depth_factor=2.2, model_num_class=400, head_activation=None
    )
    return model


def _mvit_b(grid: Grid) -> nn.Module:
    """Return MViT-B 16 × 4 (Fan et al., 2021) in the configuration of pytorchvideo's model zoo."""
    create = import_module("pytorchvideo.models.vision_transformers").create_multiscale_vision_transformers
    model: nn.Module = create(
        spatial_size=grid[1],
        temporal_size=grid[0],
        embed_dim_mul=[[1, 2.0], [3, 2.0], [14, 2.0]],
        atten_head_mul=[[1, 2.0], [3, 2.0], [14, 2.0]],
        pool_q_stride_size=[[1, 1, 2, 2], [3, 1, 2, 2], [14, 1, 2, 2]],
        pool_kv_stride_adaptive=[1, 8, 8],
        pool_kvq_kernel=[3, 3, 3],
        head_num_classes=400,
    )
    return model


_OTHERS: dict[str, Callable[[Grid], nn.Module]] = {
    "vit_1d": lambda grid: SoundViT(grid[0]),
    "convnext_1d": lambda grid: SoundConvNeXt(),
    "space_time_vit": SpaceTimeViT,
    "swin3d_t": _swin3d,
    "x3d_m": _x3d_m,
    "mvit_b": _mvit_b,
}
