"""Sinusoidal positions for any grid: nothing is learned, so nothing must be resized."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eyetoy.sizes import channels_for


class PositionalEmbedding(nn.Module):
    """Add sinusoidal positions (Vaswani et al., 2017) to `[batch, *grid, channels]`.

    The channels are shared equally among the axes: in 2-D the first half tells the row, the second the column.
    Channels that do not make up a sine and cosine pair for every axis stay as they are. A grid of more axes has the
    positions of its last ones, alike along the others.
    """

    def __init__(self, num_spatial_dims: int, channels: int, *, max_wavelength: float = 10_000.0) -> None:
        super().__init__()
        if channels < channels_for(num_spatial_dims):
            raise ValueError(
                f"positions in {num_spatial_dims} dimensions need at least {channels_for(num_spatial_dims)} channels; "
                f"got channels={channels}"
            )
        self.num_spatial_dims = num_spatial_dims
        self.pairs = channels // channels_for(num_spatial_dims)
        self.channels = channels
        self.max_wavelength = max_wavelength

    def forward(self, x: Tensor) -> Tensor:
        """Add the positions of the grid of `x`."""
        return x + self.positions(tuple(x.shape[-1 - self.num_spatial_dims : -1]), x.device).to(x.dtype)

    def positions(self, grid: tuple[int, ...], device: torch.device | None = None) -> Tensor:
        """Return the float32 positions `[*grid, channels]`."""
        axes = [self._axis(length, device) for length in grid]  # [length, 2 * pairs] each
        spread = [
            axis.reshape(*(n if i == j else 1 for j, n in enumerate(grid)), -1).expand(*grid, -1)
            for i, axis in enumerate(axes)
        ]
        unused = self.channels - channels_for(self.num_spatial_dims, self.pairs)
        return torch.cat([*spread, torch.zeros(*grid, unused, device=device, dtype=torch.float32)], dim=-1)

    def _axis(self, length: int, device: torch.device | None) -> Tensor:
        exponents = torch.arange(self.pairs, device=device, dtype=torch.float32) / self.pairs
        frequencies = torch.exp(-math.log(self.max_wavelength) * exponents)
        angles = torch.arange(length, device=device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PositionalEmbedding1D(PositionalEmbedding):
    """Positions in a sequence `[batch, length, channels]`."""

    def __init__(self, channels: int, *, max_wavelength: float = 10_000.0) -> None:
        super().__init__(1, channels, max_wavelength=max_wavelength)


class PositionalEmbedding2D(PositionalEmbedding):
    """Positions in a picture `[batch, height, width, channels]`."""

    def __init__(self, channels: int, *, max_wavelength: float = 10_000.0) -> None:
        super().__init__(2, channels, max_wavelength=max_wavelength)


class PositionalEmbedding3D(PositionalEmbedding):
    """Positions in a clip `[batch, time, height, width, channels]`."""

    def __init__(self, channels: int, *, max_wavelength: float = 10_000.0) -> None:
        super().__init__(3, channels, max_wavelength=max_wavelength)
