"""Multi-scale neighborhood attention: the block, from one head group to the stack (proposal, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from eyetoy.conv import StridedConv, upsample
from eyetoy.layers import FeedForward, ResidualBranch, build_norm, normalized
from eyetoy.lengths import clear_padding, shrink
from eyetoy.neighborhood.varlen import varlen_attention
from eyetoy.params import ConvParams, HeadParams, TransformerParams, downsampling
from eyetoy.sizes import per_axis
from eyetoy.tracing import Unscriptable, one_fx_node


class SharedScaleNA(nn.Module):
    """The heads of one scale: tokenize (strided convolution, GELU), then attend within the group's own window.

    Without `conv_params` there is no tokenizer, and the stride is 1. Maps `[batch, *grid, in_channels]` to
    `[batch, *ceil(grid / stride), intermediate_channels]`.
    """

    def __init__(self, num_spatial_dims: int, in_channels: int, params: HeadParams) -> None:
        super().__init__()
        width, attention = params.intermediate_channels, params.attn_params
        self.num_heads = params.num_heads
        self.window = per_axis(attention.attention_window, num_spatial_dims, "attention_window")
        self.dilation = per_axis(attention.dilation, num_spatial_dims, "dilation")
        self.is_causal = attention.is_causal
        self.tokenizer = None
        if params.conv_params is not None:
            self.tokenizer = StridedConv(num_spatial_dims, in_channels, width, params.conv_params)
        # Without it the tokenizer and `qkv_proj` would be one linear map; with it, training was also more stable.
        self.activation = nn.GELU()
        self.stride = (1,) * num_spatial_dims if self.tokenizer is None else self.tokenizer.stride
        self.qkv_proj = nn.Linear(in_channels if self.tokenizer is None else width, 3 * width)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Attend within `[batch, *grid, in_channels]`; in one dimension `lengths` tells how many tokens are real."""
        qkv = torch.unflatten(self.project(x, lengths), -1, (3, self.num_heads, -1))
        query, key, value = qkv.unbind(-3)  # [batch, *grid, heads, head_dim]
        # From here on the grid is the group's own: a stride of 2 left half of the tokens on each axis.
        lengths = shrink(lengths, self.stride)
        out = varlen_attention(
            query, key, value, lengths, window=self.window, dilation=self.dilation, is_causal=self.is_causal
        )
        return out.flatten(-2)

    def project(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return queries, keys and values, `[batch, *ceil(grid / stride), 3 * intermediate_channels]`."""
        if self.tokenizer is not None:
            x = self.activation(self.tokenizer(clear_padding(x, lengths)))
        qkv: Tensor = self.qkv_proj(x)
        return qkv


class MultiScaleMultiHeadNA(nn.Module, Unscriptable):
    """Head groups at several scales in parallel; their outputs are brought to the input's grid and mixed.

    Maps `[batch, *grid, in_channels]` to `[batch, *grid, out_channels]`.
    """

    def __init__(self, num_spatial_dims: int, in_channels: int, out_channels: int, heads: Sequence[HeadParams]) -> None:
        super().__init__()
        groups = [SharedScaleNA(num_spatial_dims, in_channels, group) for group in heads]
        self.groups, self.strides = nn.ModuleList(groups), [group.stride for group in groups]
        self.out_proj = nn.Linear(sum(group.intermediate_channels for group in heads), out_channels)

    @one_fx_node
    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Attend at every scale."""
        grid = tuple(x.shape[1:-1])
        groups = zip(self.groups, self.strides, strict=True)
        # Interpolation and projection commute, so their order is a matter of cost. Upsampling first moves a group's own
        # channels instead of all of the block's, and leaves one matrix product for all groups. On fine grids, where
        # most of the time goes, that is faster: 4.1 ms instead of 6.6 at 8 x 56 x 56 x 64, on one core.
        scales = [upsample(group(x, lengths), stride, grid, lengths) for group, stride in groups]
        out: Tensor = self.out_proj(torch.cat(scales, dim=-1))
        return out


class Rescale(nn.Sequential):
    """An overlapping strided convolution and a norm: `[batch, *grid, in]` to `[batch, *ceil(grid / stride), out]`."""

    def __init__(self, num_spatial_dims: int, in_channels: int, params: TransformerParams) -> None:
        stride, width = downsampling(params.scale_factor, num_spatial_dims), params.out_channels
        kernel_size = tuple(2 * s - 1 for s in stride)  # overlapping: neighbors share a border
        conv = ConvParams(kernel_size=kernel_size, stride=stride)
        super().__init__(StridedConv(num_spatial_dims, in_channels, width, conv), build_norm(params.norm, width))
        self.stride = stride

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Convolve and normalise; in one dimension `lengths` tells how many tokens of `x` are real."""
        conv, norm = self
        return normalized(norm, conv(clear_padding(x, lengths)), shrink(lengths, self.stride))


class MSNATTransformer(nn.Module):
    """One block: rescale, multi-scale attention, feed-forward, each on a residual path.

        x = Local(Rescale(x))
        x = Shortcut(x) + MultiScaleMultiHeadNA(Norm1(x))
        x = x + FFN(Norm2(x))

    Without heads the second line is x = Shortcut(x).

    Maps `[batch, *grid, in_channels]` to `[batch, *ceil(grid * scale_factor), out_channels]`. Rescale is an
    overlapping strided convolution if the grid shrinks; Local adds a depthwise convolution if there is a
    `local_kernel`; Shortcut is linear if only the width changes.

    In one dimension `lengths`, int64 `[batch]`, tells how many tokens of each input row are real; the output after them
    is meaningless.
    """

    def __init__(self, num_spatial_dims: int, in_channels: int, params: TransformerParams) -> None:
        super().__init__()
        width = params.out_channels
        self.stride = downsampling(params.scale_factor, num_spatial_dims)
        # Another width alone is left to the shortcut and the attention's projections.
        changes_grid = any(s > 1 for s in self.stride)
        self.rescale = Rescale(num_spatial_dims, in_channels, params) if changes_grid else nn.Identity()
        inner = width if changes_grid else in_channels
        self.local = _local(num_spatial_dims, inner, params)
        self.shortcut = nn.Identity() if inner == width else nn.Linear(inner, width)
        self.attention = None
        if params.heads:
            self.norm1 = build_norm(params.norm, inner)
            self.attention = MultiScaleMultiHeadNA(num_spatial_dims, inner, width, params.heads)
            self.branch1 = ResidualBranch(width, params)
        self.norm2 = build_norm(params.norm, width)
        self.ffn = FeedForward(width, params.mlp_ratio)
        self.branch2 = ResidualBranch(width, params)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Apply the block."""
        x = self.tokens(x, lengths)
        lengths = shrink(lengths, self.stride)
        shortcut = self.shortcut(x)
        if self.attention is None:
            x = shortcut
        else:
            x = self.branch1(shortcut, self.attention(normalized(self.norm1, x, lengths), lengths))
        out: Tensor = self.branch2(x, self.ffn(normalized(self.norm2, x, lengths)))
        return out

    def tokens(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the tokens before attention and its norm, `[batch, *ceil(grid * scale_factor), channels]`."""
        if not isinstance(self.rescale, nn.Identity):
            x, lengths = self.rescale(x, lengths), shrink(lengths, self.stride)
        return x if self.local is None else x + self.local(clear_padding(x, lengths))


def _local(num_spatial_dims: int, channels: int, params: TransformerParams) -> nn.Module | None:
    if params.local_kernel is None:
        return None
    conv = ConvParams(kernel_size=params.local_kernel)
    return StridedConv(num_spatial_dims, channels, channels, conv, groups=channels)


class MSNATTransformer1D(MSNATTransformer):
    """The block over `[batch, length, channels]`."""

    def __init__(self, in_channels: int, params: TransformerParams) -> None:
        super().__init__(1, in_channels, params)


class MSNATTransformer2D(MSNATTransformer):
    """The block over `[batch, height, width, channels]`."""

    def __init__(self, in_channels: int, params: TransformerParams) -> None:
        super().__init__(2, in_channels, params)


class MSNATTransformer3D(MSNATTransformer):
    """The block over `[batch, time, height, width, channels]`."""

    def __init__(self, in_channels: int, params: TransformerParams) -> None:
        super().__init__(3, in_channels, params)


class TransformerStack(nn.Sequential):
    """MSNAT blocks in a row; each takes the width of the one before. A slice is a stack of the same blocks."""

    def __init__(self, num_spatial_dims: int, in_channels: int, blocks: Sequence[TransformerParams]) -> None:
        widths = [in_channels, *(block.out_channels for block in blocks)]
        stack = [MSNATTransformer(num_spatial_dims, width, block) for width, block in zip(widths, blocks, strict=False)]
        super().__init__(*stack)

    @property
    def strides(self) -> list[tuple[int, ...]]:
        """The stride of every block that the stack holds now."""
        return [cast("tuple[int, ...]", block.stride) for block in self]

    def __getitem__(self, index: slice | int) -> Any:
        """Return a block, or a stack of several."""
        if not isinstance(index, slice):
            return super().__getitem__(index)
        # `nn.Sequential` would call the constructor, which takes parameters, not blocks.
        part = TransformerStack.__new__(TransformerStack)
        nn.Sequential.__init__(part, *list(self)[index])
        return part
