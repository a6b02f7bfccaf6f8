"""Sinusoidal positions for any grid. They are not learned, so they need no resizing for another grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.sizes import channels_for
from eyetoy.tracing import is_jit_tracing, is_transformed, one_fx_node


class PositionalEmbedding(nn.Module):
    """Add sinusoidal positions (Vaswani et al., 2017) to `[batch, *grid, channels]`.

    The axes share the channels equally: in 2-D the first half holds the row, the second half the column. Channels left
    over, too few for a sine and cosine pair of every axis, stay as they are. A grid with more axes gets the positions
    of its last axes, the same along the others.

    Args:
        num_spatial_dims: axes that have positions, the last ones of the grid.
        channels: of the tokens, at least one sine and cosine pair per axis.
        max_wavelength: the longest wavelength in tokens, roughly, divided by 2 pi.

    Raises:
        ValueError: there are too few channels.
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

    @one_fx_node
    def forward(self, x: Tensor) -> Tensor:
        """Add the positions of the grid of `x`."""
        is_traced = torch.compiler.is_compiling() or is_jit_tracing() or is_transformed() or type(x) is not Tensor
        grid = tuple(x.shape[-1 - self.num_spatial_dims : -1])
        return x + self._positions(grid, x.device, _axis if is_traced else _cached_axis).to(x.dtype)

    def positions(self, grid: tuple[int, ...], device: torch.device | None = None) -> Tensor:
        """Return the float32 positions `[*grid, channels]`."""
        return self._positions(grid, device, _axis)

    def _positions(self, grid: tuple[int, ...], device: torch.device | None, axis: Callable[..., Tensor]) -> Tensor:
        # For example in 2d: rows [H, 2p] -> [H, 1, 2p] -> [H, W, 2p], columns [W, 2p] -> [1, W, 2p] -> [H, W, 2p].
        unused = self.channels - channels_for(self.num_spatial_dims, self.pairs)
        spread = []
        for i, length in enumerate(grid):
            zeros = unused if i == len(grid) - 1 else 0  # the last axis also has the channels that are left over
            values = axis(length, self.pairs, zeros, self.max_wavelength, device)
            spread.append(values.reshape(*(n if i == j else 1 for j, n in enumerate(grid)), -1).expand(*grid, -1))
        return torch.cat(spread, dim=-1) if len(grid) > 1 else spread[0]


def _axis(length: int, pairs: int, zeros: int, max_wavelength: float, device: torch.device | None) -> Tensor:
    """Return sines, cosines and zeros for the places along an axis, `[length, 2 * pairs + zeros]`."""
    # Float32 throughout: in bfloat16, whole positions above 256 would collide. `forward` casts the result.
    exponents = torch.arange(pairs, device=device, dtype=torch.float32) / pairs
    frequencies = torch.exp(-math.log(max_wavelength) * exponents)
    angles = torch.arange(length, device=device)[:, None] * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, zeros))


# By axis, because these are small: on a GPU, to compute them anew would launch ten kernels for each.
@lru_cache(maxsize=256)
@torch.inference_mode(False)  # they are also used in training
def _cached_axis(length: int, pairs: int, zeros: int, max_wavelength: float, device: torch.device) -> Tensor:
    return _axis(length, pairs, zeros, max_wavelength, device)


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
