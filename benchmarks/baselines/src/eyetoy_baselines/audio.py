"""Baselines of Encoder1D: M5, MatchboxNet, BC-ResNet, a plain 1-D vision transformer and AST.

Each maps waveforms `[batch, 1, samples]` of any length to logits `[batch, num_classes]`. By default each has about as
many parameters as `eyetoy1d_nano`, 3.2 M; the sizes of the papers are options.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy_audio.transforms.features import LogMel
from eyetoy_baselines.transformer import init_linear, vit_blocks


class M5(nn.Module):
    """Four convolutions on the raw waveform, each followed by a pool of 4, and a global average (Dai et al., 2017).

    Very deep convolutional neural networks for raw waveforms, ICASSP 2017, table 1. The first kernel, 80 samples with a
    stride of 4 at the paper's 8 kHz, spans the same 10 and 0.5 ms at other rates. All convolutions and pools are
    padded, so that even short clips have a token left at the end.

    Args:
        num_classes: how many logits.
        sample_rate: of the waveform, in Hz.
        width: channels of the first two convolutions, 128 in the paper (0.56 M parameters); the next two have twice and
            four times as many.
        dropout: share of the channels to drop before the head; none in the paper.
    """

    def __init__(self, *, num_classes: int, sample_rate: int, width: int = 310, dropout: float = 0.0) -> None:
        super().__init__()
        # 80 and 4 samples at the paper's 8 kHz.
        kernel_size, stride = (max(round(samples * sample_rate / 8000), 1) for samples in (80, 4))
        channels = (width, width, 2 * width, 4 * width)
        # For example a second at 16 kHz: 16000 samples, 2001 after the stride of 8, and 8 after four pools of 4.
        self.layers = nn.Sequential(
            self._layer(1, width, kernel_size, stride),
            *[self._layer(before, after, 3, 1) for before, after in itertools.pairwise(channels)],
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], num_classes)

    @staticmethod
    def _layer(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv1d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
            nn.MaxPool1d(4, ceil_mode=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        logits: Tensor = self.head(self.dropout(self.layers(x).mean(-1)))
        return logits


class MatchboxNet(nn.Module):
    """Separable convolutions over a spectrogram (Majumdar and Ginsburg, MatchboxNet, Interspeech 2020).

    The front end is part of the module: 64 log-mel bands in windows of 25 ms, 10 ms apart (`LogMel`); the paper takes
    their cosine transform, MFCC. Table 1 of the paper follows: a convolution, B blocks of R sub-blocks with C channels,
    two more convolutions, the average over time and a linear layer.

    Args:
        num_classes: how many logits.
        sample_rate: of the waveform, in Hz.
        kernel_sizes: one per block, all odd; their number is B.
        repeats: R, sub-blocks per block.
        channels: C; the convolutions around the blocks have twice as many. The paper's 3x2x64 has 64 (93 k
            parameters with 30 classes).
        dropout: share of a sub-block's activations to drop.

    Raises:
        ValueError: a kernel size is even.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate: int,
        kernel_sizes: Sequence[int] = (13, 15, 17),
        repeats: int = 2,
        channels: int = 428,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        even = [size for size in kernel_sizes if size % 2 == 0]
        if even:
            raise ValueError(f"kernel_sizes are {list(kernel_sizes)}; they should be odd, unlike {even}")
        num_bands, wide = 64, 2 * channels
        self.front_end = LogMel(sample_rate, num_bands)
        inputs = (wide, *[channels] * (len(kernel_sizes) - 1))
        self.layers = nn.Sequential(
            *[_separable(num_bands, wide, 11), _Activation(dropout)],
            *[
                _MatchboxBlock(before, channels, size, repeats, dropout)
                for before, size in zip(inputs, kernel_sizes, strict=True)
            ],
            *[_separable(channels, wide, 29, dilation=2), _Activation(dropout)],
            *[nn.Conv1d(wide, wide, 1, bias=False), nn.BatchNorm1d(wide), _Activation(dropout)],
        )
        self.head = nn.Linear(wide, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        logits: Tensor = self.head(self.layers(self.front_end(x)).mean(-1))
        return logits


class _MatchboxBlock(nn.Module):
    """Sub-blocks of separable convolution, batch norm, ReLU and dropout; the shortcut joins before the last ReLU."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, repeats: int, dropout: float) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.Conv1d(in_channels, channels, 1, bias=False), nn.BatchNorm1d(channels))
        inputs = (in_channels, *[channels] * (repeats - 1))
        self.convolutions = nn.ModuleList(_separable(before, channels, kernel_size) for before in inputs)
        self.activation = _Activation(dropout)

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.shortcut(x)
        for convolution in self.convolutions[:-1]:
            x = self.activation(convolution(x))
        out: Tensor = self.activation(self.convolutions[-1](x) + shortcut)
        return out


class _Activation(nn.Sequential):
    """ReLU, then dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__(nn.ReLU(), nn.Dropout(dropout))


def _separable(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Sequential:
    """Return a convolution over time per channel, one over channels per time step, and a norm."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv1d(
            in_channels, in_channels, kernel_size, padding=padding, dilation=dilation, groups=in_channels, bias=False
        ),
        nn.Conv1d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm1d(out_channels),
    )


class BCResNet(nn.Module):
    """Residual blocks whose convolutions over time see the mean over bands (Kim et al., BC-ResNet, Interspeech 2021).

    Broadcasted residual learning for efficient keyword spotting, table 1. The front end is part of the module: 40
    log-mel bands in windows of 30 ms, 10 ms apart (`LogMel`).

    Args:
        num_classes: how many logits.
        sample_rate: of the waveform, in Hz.
        width: factor on the channels; the paper's BC-ResNet-1 has 1 (9 k parameters) and BC-ResNet-8 has 8 (321 k).
        dropout: share of the channels that a block's convolution over time drops, 0.1 in the paper.
    """

    BANDS = 40

    def __init__(self, *, num_classes: int, sample_rate: int, width: float = 26.25, dropout: float = 0.1) -> None:
        super().__init__()
        self.front_end = LogMel(sample_rate, self.BANDS, window_ms=30.0)
        stem, *widths, last, wide = (int(8 * width * factor) for factor in (2, 1, 1.5, 2, 2.5, 4))
        layers: list[nn.Module] = [_conv_norm(1, stem, 5, stride=(2, 1), padding=2), nn.ReLU()]
        source = stem
        # Bands: 40, 20 after the stem, then 10 and 5 from the second and third stage on.
        for stage, (target, depth) in enumerate(zip((*widths, last), (2, 2, 4, 4), strict=True)):
            for block in range(depth):
                stride = 2 if block == 0 and stage in (1, 2) else 1
                layers.append(_BroadcastBlock(source, target, stride, dilation=2**stage, dropout=dropout))
                source = target
        layers.append(nn.Conv2d(last, last, 5, padding=(0, 2), groups=last, bias=False))
        layers += [_conv_norm(last, wide, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(wide, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        logits: Tensor = self.head(self.layers(self.front_end(x)[:, None]).mean((2, 3)))
        return logits


class _BroadcastBlock(nn.Module):
    """A convolution over bands, and one over time on the mean of the bands, whose result all bands get."""

    def __init__(self, in_channels: int, channels: int, stride: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.changes = in_channels != channels
        widen = [_conv_norm(in_channels, channels, 1), nn.ReLU()] if self.changes else []
        over_bands = nn.Conv2d(channels, channels, (3, 1), (stride, 1), (1, 0), groups=channels, bias=False)
        self.bands = nn.Sequential(*widen, over_bands, _SubSpectralNorm(channels))
        self.time = nn.Sequential(
            nn.Conv2d(channels, channels, (1, 3), 1, (0, dilation), (1, dilation), groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Dropout2d(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        bands = self.bands(x)
        out = bands + self.time(bands.mean(2, keepdim=True))
        return F.relu(out if self.changes else out + x)


class _SubSpectralNorm(nn.Module):
    """A batch norm for each fifth of the bands (Chang et al., Subspectral normalization, ICASSP 2021)."""

    PARTS = 5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(self.PARTS * channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.view(len(x), x.shape[1] * self.PARTS, x.shape[2] // self.PARTS, x.shape[3])
        normalized: Tensor = self.norm(parts).view(x.shape)
        return normalized


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int, **options: Any) -> nn.Sequential:
    """Return a 2-D convolution and a norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class ViT1D(nn.Module):
    """A plain vision transformer (Dosovitskiy et al., ICLR 2021) whose patches are 10 ms of the raw waveform.

    It has fixed sinusoidal positions, for clips of any length, and averages the tokens instead of using a class token
    (Beyer et al., Better plain ViT baselines for ImageNet-1k, 2022). The last patch is padded with zeros.

    Args:
        num_classes: how many logits.
        sample_rate: of the waveform, in Hz.
        patch_ms: length of a patch, in milliseconds.
        dim: channels, a multiple of `num_heads` and even.
        depth: how many blocks.
        num_heads: how many attention heads.
        mlp_ratio: hidden channels of the feed-forward part, in multiples of `dim`.
        dropout: share of the channels to drop before the head.
        drop_path: stochastic depth of the last block, growing linearly from 0 at the first.

    Raises:
        ValueError: `dim` does not fit `num_heads`, or is odd.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate: int,
        patch_ms: float = 10.0,
        dim: int = 192,
        depth: int = 7,
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % num_heads or dim % 2:
            raise ValueError(f"dim is {dim}; it should be even and a multiple of num_heads, {num_heads}")
        self.patch_size = max(round(sample_rate * patch_ms / 1000), 1)
        self.embed = nn.Linear(self.patch_size, dim)
        self.blocks = vit_blocks(dim, depth, num_heads, round(dim * mlp_ratio), drop_path)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, num_classes)
        self.apply(init_linear)
        # A patch of samples is not normalized, unlike a block's input: 0.02 would make tokens smaller than positions.
        nn.init.normal_(self.embed.weight, std=self.patch_size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        x = F.pad(x[:, 0], (0, -x.shape[-1] % self.patch_size))
        tokens = self.embed(x.view(len(x), -1, self.patch_size))  # [batch, patches, dim]
        tokens = self.blocks(tokens + sinusoids(tokens.shape[1], tokens.shape[2], x.device).to(tokens.dtype))
        logits: Tensor = self.head(self.dropout(self.norm(tokens).mean(1)))
        return logits


class AST(nn.Module):
    """The audio spectrogram transformer: a vision transformer over patches of a spectrogram (Gong et al., 2021).

    AST: audio spectrogram transformer, Interspeech 2021. Patches of 16 bands and 16 frames overlap by 6. The front end
    is part of the module: log-mel bands in windows of 25 ms, 10 ms apart (`LogMel`), 128 of them in the paper. Unlike
    the paper's, it starts from new weights, has fixed sinusoidal positions, for clips of any length, and averages the
    tokens instead of using class tokens, as `ViT1D` does.

    Args:
        num_classes: how many logits.
        sample_rate: of the waveform, in Hz.
        num_bands: mel bands.
        dim: channels, a multiple of `num_heads` and of 4.
        depth: how many blocks.
        num_heads: how many attention heads.
        dropout: share of the channels to drop before the head.
        drop_path: stochastic depth of the last block, growing linearly from 0 at the first.

    Raises:
        ValueError: `dim` does not fit `num_heads`, or is no multiple of 4.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate: int,
        num_bands: int = 64,
        dim: int = 192,
        depth: int = 7,
        num_heads: int = 3,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % num_heads or dim % 4:
            raise ValueError(f"dim is {dim}; it should be a multiple of 4 and of num_heads, {num_heads}")
        self.front_end = LogMel(sample_rate, num_bands)
        self.embed = nn.Conv2d(1, dim, 16, 10)
        self.blocks = vit_blocks(dim, depth, num_heads, 4 * dim, drop_path)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, num_classes)
        self.apply(init_linear)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        features = self.front_end(x)[:, None]
        spare = max(16 - features.shape[-1], (16 - features.shape[-1]) % 10)  # a last patch that ends with zeros
        patches = self.embed(F.pad(features, (0, spare)))  # [batch, dim, bands, frames]
        rows, columns = (sinusoids(size, patches.shape[1] // 2, x.device) for size in patches.shape[2:])
        size = (*patches.shape[2:], rows.shape[1])
        grid = torch.cat([rows[:, None].expand(size), columns[None].expand(size)], -1)
        tokens = patches.permute(0, 2, 3, 1) + grid.to(patches)  # [batch, bands, frames, dim]
        logits: Tensor = self.head(self.dropout(self.norm(self.blocks(tokens.flatten(1, 2))).mean(1)))
        return logits


def sinusoids(length: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Return positions as sines and cosines of many wavelengths, `[length, dim]` (Vaswani et al., NeurIPS 2017)."""
    frequencies = torch.exp(torch.arange(dim // 2, device=device) * (-2 * math.log(10_000) / dim))
    angles = torch.arange(length, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


BASELINES: dict[str, Callable[..., nn.Module]] = {
    "m5": M5,
    "matchboxnet": MatchboxNet,
    "bcresnet": BCResNet,
    "vit1d": ViT1D,
    "ast": AST,
}


def create_baseline(name: str, *, num_classes: int, sample_rate: int, **options: object) -> nn.Module:
    """Return one of `BASELINES`, with new weights.

    Args:
        name: name of the baseline.
        num_classes: number of logits.
        sample_rate: of the waveforms, in Hz.
        **options: further arguments of the model.

    Raises:
        ValueError: there is no such model, or it does not take one of the options.
    """
    if name not in BASELINES:
        raise ValueError(f"there is no baseline named {name!r}; there are {', '.join(sorted(BASELINES))}")
    try:
        return BASELINES[name](num_classes=num_classes, sample_rate=sample_rate, **options)
    except TypeError as error:
        raise ValueError(f"options {options} do not fit {name}: {error}") from error


def build_baseline(
    name: str, arguments: dict[str, Any], grid: Sequence[int] | None = None, *, sample_rate: int
) -> nn.Module:
    """Return a baseline for a recipe, the `Build` of the family `baseline`.

    Args:
        name: name of the baseline.
        arguments: the recipe's; rates of 0 are left out, for models without dropout or drop path.
        grid: not used, since all take any length.
        sample_rate: of the waveforms, in Hz.

    Raises:
        ValueError: see `create_baseline`, or the recipe's input is not a waveform.
    """
    channels = arguments.get("in_channels", 1)
    if channels != 1:
        raise ValueError(f"{name} takes waveforms of 1 channel, data.features: waveform; got {channels} channels")
    ignored = {"in_channels"} | {rate for rate in ("drop_path", "dropout") if not arguments.get(rate)}
    return create_baseline(name, sample_rate=sample_rate, **{k: v for k, v in arguments.items() if k not in ignored})
