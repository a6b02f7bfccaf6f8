"""Inflation: an encoder of images gets a time axis, and starts from the weights that it learned on images.

I3D (Carreira and Zisserman, CVPR 2017) and Video Swin (Liu et al., CVPR 2022) do the same. In a kernel over time only
the middle frame starts with the image's weights, the others with zeros. ViViT (Arnab et al., ICCV 2021, section 4.4)
found this better than weights averaged over the frames. On a still clip, an inflated encoder then gives the features
that it gave on the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eyetoy.params import AttentionParams, ConvParams, EncoderParams, HeadParams, TransformerParams, downsampling
from eyetoy.sizes import Size, check_count, per_axis


@dataclass(frozen=True, kw_only=True)
class Inflation:
    """How an inflated encoder sees time: in the first convolution of its stem, and in every attention window."""

    temporal_stride: int = 2
    """Frames per token, 1 or 2."""
    temporal_kernel: int = 3
    """Frames that the stem's first convolution sees; odd, so that there is a middle one."""
    temporal_window: int = 3
    """Tokens of time in an attention window."""

    def __post_init__(self) -> None:
        """Refuse a kernel without a middle frame, or one whose middle frame may lie after the end of a clip."""
        for name in ("temporal_kernel", "temporal_window"):
            check_count(getattr(self, name), name)
        stride, kernel = self.temporal_stride, self.temporal_kernel
        # Padding depends on kernel and stride alone (`StridedConv`). With a stride of 3, the last token of a clip of 4
        # frames would have its middle, the only weights that are not zero, on a frame of padding.
        if stride not in (1, 2):
            raise ValueError(f"temporal_stride must be 1 or 2; got {stride}")
        if kernel % 2 == 0 or kernel < stride:
            raise ValueError(f"temporal_kernel must be odd and at least temporal_stride, {stride}; got {kernel}")


def inflated(params: EncoderParams, inflation: Inflation | None = None) -> EncoderParams:
    """Return the parameters of the video encoder that an image encoder becomes.

    Its positions tell the place in a frame alone, not the time: positions in three dimensions would share the channels
    differently, and the weights know those of two.

    Args:
        params: an encoder in two dimensions.
        inflation: how it sees time; the defaults of `Inflation` if not given.

    Raises:
        ValueError: `params` are not those of an encoder in two dimensions.
    """
    if params.num_spatial_dims != 2:
        raise ValueError(f"only an encoder of images can be inflated; got num_spatial_dims={params.num_spatial_dims}")
    inflation = inflation or Inflation()
    first, *rest = params.initial_proj
    return replace(
        params,
        num_spatial_dims=3,
        initial_proj=(
            _conv(first, inflation.temporal_kernel, inflation.temporal_stride),
            *(_conv(conv, 1, 1) for conv in rest),
        ),
        transformer=tuple(_block(block, inflation.temporal_window) for block in params.transformer),
        positional_embedding="space" if params.positional_embedding else False,
    )


def inflated_weight(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """Return a convolution's weight with a time axis, or None if `shape` is not that of this weight with one.

    Args:
        weight: `[out, *kernel, in]`.
        shape: `[out, time, *kernel, in]`.
    """
    # For example [32, 3, 3, 3] (out, height, width, in) fits [32, 5, 3, 3, 3] (out, time, height, width, in). Linear
    # layers, of 2 axes, have nothing to inflate, and an even kernel has no middle frame.
    if len(shape) != weight.ndim + 1 or weight.ndim < 3 or (shape[0], *shape[2:]) != weight.shape or shape[1] % 2 == 0:
        return None
    spread = weight.new_zeros(shape)
    spread[:, shape[1] // 2] = weight
    return spread


def _block(block: TransformerParams, window: int) -> TransformerParams:
    # Only the stem and the windows see time: blocks neither merge nor subsample frames, so every weight fits.
    factors = tuple(1 / stride for stride in downsampling(block.scale_factor, 2))
    local = None if block.local_kernel is None else _with_time(block.local_kernel, 1, "local_kernel")
    heads = tuple(_heads(group, window) for group in block.heads)
    return replace(block, heads=heads, scale_factor=(1.0, *factors), local_kernel=local)


def _heads(group: HeadParams, window: int) -> HeadParams:
    attention = group.attn_params
    params = AttentionParams(
        attention_window=_with_time(attention.attention_window, window, "attention_window"),
        dilation=_with_time(attention.dilation, 1, "dilation"),
        is_causal=attention.is_causal,
    )
    return replace(group, conv_params=group.conv_params and _conv(group.conv_params, 1, 1), attn_params=params)


def _conv(conv: ConvParams, kernel: int, stride: int) -> ConvParams:
    return replace(
        conv,
        kernel_size=_with_time(conv.kernel_size, kernel, "kernel_size"),
        stride=_with_time(conv.stride, stride, "stride"),
    )


def _with_time(size: Size, time: int, name: str) -> tuple[int, ...]:
    return (time, *per_axis(size, 2, name))
