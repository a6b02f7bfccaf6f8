"""Channels-last convolution and interpolation in 1, 2 and 3 dimensions: the steps between two scales."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.lengths import repeat_last, shrink
from eyetoy.params import ConvParams
from eyetoy.sizes import ceil_div, per_axis, volume
from eyetoy.tracing import is_jit_tracing, is_plain_call, is_transformed, one_fx_node

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CROPPING_DEVICES = ("cpu", "cuda", "meta")
"""Where interpolation is known to follow its scales if the size that is asked for is not their multiple."""


class StridedConv(nn.Module):
    """A strided convolution `[batch, *grid, in] -> [batch, *ceil(grid / stride), out]`, channels last.

    A grid that the stride does not divide is padded with zeros, so any size works. If the kernel equals the stride,
    patches do not overlap, and the convolution is a reshape and one matrix product. With as many `groups` as channels
    it is depthwise.
    """

    def __init__(
        self, num_spatial_dims: int, in_channels: int, out_channels: int, params: ConvParams, *, groups: int = 1
    ) -> None:
        super().__init__()
        self.groups = groups
        self.kernel_size = per_axis(params.kernel_size, num_spatial_dims, "kernel_size")
        self.stride = per_axis(params.stride, num_spatial_dims, "stride")
        # Channels innermost, the order in which both a channels-last convolution and a matrix product read them.
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel_size, in_channels // groups))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.spread_bias = params.spread_bias
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new weights, also after `to_empty`."""
        bound = 1 / math.sqrt(volume(self.kernel_size) * self.weight.shape[-1])
        nn.init.uniform_(self.weight, -bound, bound)
        widest = bound if self.spread_bias else 0.0
        self.bias.copy_(torch.linspace(-widest, widest, len(self.bias), dtype=self.bias.dtype, device=self.bias.device))

    @property
    def padding_before(self) -> tuple[int, ...]:
        """Zeros before each axis; they do not depend on its length."""
        return tuple(map(_padding_before, self.kernel_size, self.stride))

    @one_fx_node
    def forward(self, x: Tensor) -> Tensor:
        """Convolve `[batch, *grid, in]`."""
        if self.kernel_size == self.stride and self.groups == 1:
            return F.linear(self._patches(self._pad(x)), self.weight.flatten(1), self.bias)
        # Let the convolution pad by itself if it can: that saves a copy of its input.
        padding = _same_padding(x.shape[1:-1], self.kernel_size, self.stride)
        if padding is None:
            x, padding = self._pad(x), (0,) * len(self.stride)
        convolve = _one_clip if self._is_slow(x) else _CONVOLUTIONS[len(self.stride)]
        weight = self.weight.movedim(-1, 1)
        y = convolve(x.movedim(-1, 1), weight, self.bias, stride=self.stride, padding=padding, groups=self.groups)
        return y.movedim(1, -1).contiguous()

    def _is_slow(self, x: Tensor) -> bool:
        """Whether PyTorch would not use oneDNN: for a single small clip its own loop takes twice as long."""
        if len(self.stride) != 3 or not is_plain_call(x):  # a traced graph must not depend on the batch
            return False
        is_single = len(x) == 1 and x.dtype == self.weight.dtype == torch.float32
        return is_single and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and _uses_onednn()

    def _patches(self, x: Tensor) -> Tensor:
        """Cut into patches; in 2-D: [B, Y, X, C] -> [B, Y/sy, sy, X/sx, sx, C] -> [B, Y/sy, X/sx, sy sx C]."""
        dim = len(self.stride)
        for axis in reversed(range(dim)):
            x = torch.unflatten(x, axis + 1, (-1, self.stride[axis]))
        tokens, places = range(1, 1 + 2 * dim, 2), range(2, 2 + 2 * dim, 2)
        return x.permute(0, *tokens, *places, 1 + 2 * dim).flatten(1 + dim)

    def _pad(self, x: Tensor) -> Tensor:
        grid = x.shape[1:-1]
        paddings = [same_grid_padding(n, k, s) for n, k, s in zip(grid, self.kernel_size, self.stride, strict=True)]
        if not any(before or after for before, after in paddings):
            return x
        return F.pad(x, (0, 0, *(amount for padding in reversed(paddings) for amount in padding)))

    def extra_repr(self) -> str:
        """Sizes for `print(model)`."""
        out_channels, in_channels = self.weight.shape[0], self.weight.shape[-1] * self.groups
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        return f"{in_channels}, {out_channels}, kernel_size={self.kernel_size}, stride={self.stride}{groups}"


def _uses_onednn() -> bool:
    onednn = torch.backends.mkldnn
    return bool(onednn.enabled and onednn.is_available())  # type: ignore[no-untyped-call]


def _one_clip(
    x: Tensor, weight: Tensor, bias: Tensor, *, stride: Sequence[int], padding: Sequence[int], groups: int
) -> Tensor:
    """Convolve as `F.conv3d` does, by oneDNN."""
    y: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1, 1), groups)
    return y


def _same_padding(grid: Sequence[int], kernel_size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...] | None:
    """Return the zeros that a convolution can add itself on both sides of an axis; None if the result would differ."""
    # It adds as many after the end as before the start. Too many are harmless if no token reaches them; too few, or
    # enough for one more token, are not. For example n = 8, kernel 3, stride 2: 1 before and 0 after are needed, and
    # with 1 on both sides there are (8 + 2 - 3) // 2 + 1 = 4 tokens, the same as ceil(8 / 2).
    padding = []
    for n, k, s in zip(grid, kernel_size, stride, strict=True):
        before, after = same_grid_padding(n, k, s)
        if after > before or (n + 2 * before - k) // s + 1 != ceil_div(n, s):
            return None
        padding.append(before)
    return tuple(padding)


def same_grid_padding(length: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis so that it yields `ceil(length / stride)` tokens.

    If their number is odd, the extra one comes before: then `_same_padding` holds for the kernels of `2 * stride - 1`
    that the encoders use.
    """
    before = _padding_before(kernel_size, stride)
    return before, (ceil_div(length, stride) - 1) * stride + kernel_size - length - before


def _padding_before(kernel_size: int, stride: int) -> int:
    return (kernel_size - stride + 1) // 2


def upsample(x: Tensor, stride: tuple[int, ...], grid: tuple[int, ...], lengths: Tensor | None = None) -> Tensor:
    """Bring coarse tokens back to the grid from which a `StridedConv` of this stride made them.

    Args:
        x: `[batch, *ceil(grid / stride), channels]`.
        stride: the stride per axis.
        grid: the grid to return to; padding up to a multiple of the stride is cropped.
        lengths: int64 `[batch]`, in one dimension only: how many tokens of `grid` are not padding.

    Returns:
        `[batch, *grid, channels]`, interpolated linearly between the centers of the coarse tokens.
    """
    if all(s == 1 for s in stride):
        return x
    x = repeat_last(x, shrink(lengths, stride))
    if len(grid) == 1:
        # As an image of one row: interpolation keeps channels innermost in two and three dimensions only.
        return _interpolate(x[:, None], (1, *stride), (1, *grid))[:, 0]
    return _interpolate(x, stride, grid)


def _interpolate(x: Tensor, stride: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    coarse = x.movedim(-1, 1)
    is_traced = torch.compiler.is_compiling() or is_jit_tracing() or is_transformed() or type(x) is not Tensor
    if is_traced or x.device.type not in _CROPPING_DEVICES:
        # A traced graph has the usual operator, which every exporter knows, and a compiler drops what is cropped.
        padded = tuple(n * s for n, s in zip(x.shape[1:-1], stride, strict=True))
        mode = "bilinear" if len(grid) == 2 else "trilinear"
        whole = F.interpolate(coarse, size=padded, mode=mode, align_corners=False)
        return whole.movedim(1, -1)[(slice(None), *(slice(n) for n in grid))]
    # With both scales and size, tokens after the grid's end are never computed.
    operator = torch.ops.aten.upsample_bilinear2d if len(grid) == 2 else torch.ops.aten.upsample_trilinear3d
    fine: Tensor = operator(coarse, grid, False, *map(float, stride)).movedim(1, -1)
    if fine.requires_grad and x.device.type == "cpu":
        fine.register_hook(_without_gaps)  # type: ignore[no-untyped-call]
    return fine


def _without_gaps(grad: Tensor | None) -> Tensor | None:
    # This gradient is a part of that of all groups. With gaps between its tokens, the backward pass on a CPU would go
    # channel by channel, which takes five times as long as this copy and the pass.
    return None if grad is None else grad.contiguous()
