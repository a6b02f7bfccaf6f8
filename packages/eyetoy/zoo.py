"""Named models: `create_model("eyetoy2d_nano", num_classes=10)`.

A name says the number of dimensions and the size. `pico` is for a first look on a laptop; `preliminary` is the
proposal's 4-block model (section 5.1) with global average pooling in place of the global stack.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eyetoy.classifier import Classifier
from eyetoy.encoder import ENCODERS, Encoder
from eyetoy.params import (
    AttentionParams,
    ConvParams,
    EncoderParams,
    GlobalAttentionParams,
    HeadParams,
    TransformerParams,
)
from eyetoy.pyramid import FeaturePyramid
from eyetoy.sizes import Size, check_rates, per_axis

IN_CHANNELS = {1: 1, 2: 3, 3: 3}


@dataclass(frozen=True, kw_only=True)
class _Rank:
    """What changes with the number of dimensions."""

    stem_strides: tuple[Size, ...]
    scale_factor: float | tuple[float, ...]
    """Between two stages."""
    window: Size
    tokenizers: tuple[ConvParams, ...]
    """One for each head group, the finest first."""


@dataclass(frozen=True, kw_only=True)
class _Size:
    """What changes with the size: the width and the number of blocks of each stage, and the global stack."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    head_dim: int
    global_depth: int


_PATCHES = tuple(ConvParams(kernel_size=stride, stride=stride) for stride in (1, 2, 4))
# What moves in a clip shows in neighboring frames: tokens that overlap let a block see it before it attends. On clips
# of moving digits that made the difference between learning at once and staying at chance for many epochs.
_OVERLAPPING = (ConvParams(kernel_size=3, stride=1), ConvParams(kernel_size=3, stride=2))

_RANKS = {
    1: _Rank(stem_strides=(4, 4, 4), scale_factor=0.5, window=15, tokenizers=_PATCHES),
    2: _Rank(stem_strides=(2, 2), scale_factor=0.5, window=7, tokenizers=_PATCHES),
    3: _Rank(stem_strides=(2, (1, 2, 2)), scale_factor=(1.0, 0.5, 0.5), window=(3, 5, 5), tokenizers=_OVERLAPPING),
}
_SIZES = {
    "pico": _Size(widths=(64, 96), depths=(1, 2), head_dim=16, global_depth=1),
    "nano": _Size(widths=(32, 64, 128, 256), depths=(2, 2, 3, 1), head_dim=16, global_depth=1),
}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a shell pattern, such as `"eyetoy2d_*"`."""
    return sorted(fnmatch.filter(_NAMED, pattern))


def encoder_params(
    name: str,
    *,
    in_channels: int | None = None,
    stem_strides: Sequence[Size] | None = None,
    drop_path: float = 0.0,
) -> EncoderParams:
    """Return the parameters of a named encoder.

    Args:
        name: one of `list_models()`.
        in_channels: channels of the input; 1 for sound and 3 for images and video by default.
        stem_strides: strides of the stem's convolutions, for inputs smaller or larger than the usual ones: `(2,)`
            keeps pictures of 16 × 16 at 8 × 8 tokens.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.

    Raises:
        ValueError: no model has this name; the message lists those that there are.
    """
    if name not in _NAMED:
        raise ValueError(f"no model is named {name!r}; there are {', '.join(list_models())}")
    params = _NAMED[name]()
    dim = params.num_spatial_dims
    params = replace(params, in_channels=IN_CHANNELS[dim] if in_channels is None else in_channels)
    if stem_strides is not None:
        params = replace(params, initial_proj=_stem(stem_strides, dim))
    return _with_drop_path(params, drop_path)


def create_encoder(
    name: str,
    *,
    in_channels: int | None = None,
    stem_strides: Sequence[Size] | None = None,
    drop_path: float = 0.0,
) -> Encoder:
    """Build a named encoder; arguments and errors as in `encoder_params`."""
    params = encoder_params(name, in_channels=in_channels, stem_strides=stem_strides, drop_path=drop_path)
    return ENCODERS[params.num_spatial_dims](params)


def create_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int | None = None,
    stem_strides: Sequence[Size] | None = None,
    drop_path: float = 0.0,
    dropout: float = 0.0,
) -> Classifier:
    """Build a named classifier; arguments and errors as in `encoder_params` and `Classifier`."""
    params = encoder_params(name, in_channels=in_channels, stem_strides=stem_strides, drop_path=drop_path)
    return Classifier(params, num_classes, dropout)


def create_pyramid(
    name: str,
    *,
    out_indices: Sequence[int] | None = None,
    in_channels: int | None = None,
    stem_strides: Sequence[Size] | None = None,
    drop_path: float = 0.0,
) -> FeaturePyramid:
    """Build a named encoder as a backbone; arguments and errors as in `encoder_params` and `FeaturePyramid`."""
    params = encoder_params(name, in_channels=in_channels, stem_strides=stem_strides, drop_path=drop_path)
    return FeaturePyramid(params, out_indices)


def _pyramid(num_spatial_dims: int, size: _Size) -> EncoderParams:
    rank = _RANKS[num_spatial_dims]
    blocks = []
    for stage, (width, depth) in enumerate(zip(size.widths, size.depths, strict=True)):
        heads = _head_groups(rank, width, size.head_dim)
        first = rank.scale_factor if stage else 1.0
        blocks += [
            TransformerParams(heads=heads, out_channels=width, scale_factor=first if i == 0 else 1.0)
            for i in range(depth)
        ]
    width = size.widths[-1]
    return EncoderParams(
        num_spatial_dims=num_spatial_dims,
        in_channels=IN_CHANNELS[num_spatial_dims],
        stem_channels=size.widths[0],
        initial_proj=_stem(rank.stem_strides, num_spatial_dims),
        transformer=tuple(blocks),
        global_attention=GlobalAttentionParams(depth=size.global_depth, num_heads=width // (2 * size.head_dim)),
    )


def _head_groups(rank: _Rank, width: int, head_dim: int) -> tuple[HeadParams, ...]:
    """Give a quarter of the heads, at least one, to each coarse scale and the rest to the finest."""
    groups, total = len(rank.tokenizers), width // head_dim
    if total < groups:
        head_dim, total = width // (groups + 1), groups + 1
    coarse = max(total // 4, 1)
    counts = [total - coarse * (groups - 1), *[coarse] * (groups - 1)]
    return tuple(
        HeadParams(
            conv_params=tokenizer,
            attn_params=AttentionParams(attention_window=rank.window),
            num_heads=count,
            intermediate_channels=count * head_dim,
        )
        for tokenizer, count in zip(rank.tokenizers, counts, strict=True)
    )


def _stem(strides: Sequence[Size], num_spatial_dims: int) -> tuple[ConvParams, ...]:
    """Return overlapping convolutions: a kernel of 3 for strides of 1 and 2, of 7 for a stride of 4."""
    spread = [per_axis(stride, num_spatial_dims, "stem_strides") for stride in strides]
    return tuple(ConvParams(kernel_size=tuple(max(2 * s - 1, 3) for s in stride), stride=stride) for stride in spread)


def _preliminary() -> EncoderParams:
    """Build the proposal's preliminary model: 4 blocks, 4 groups of 2 heads, no global stack (section 5.1)."""
    heads = tuple(
        HeadParams(
            conv_params=ConvParams(kernel_size=stride, stride=stride),
            attn_params=AttentionParams(attention_window=window),
            num_heads=2,
            intermediate_channels=24,
        )
        for stride, window in ((1, 17), (2, 13), (4, 11), (8, 7))
    )
    return EncoderParams(
        num_spatial_dims=2,
        in_channels=3,
        stem_channels=192,
        initial_proj=_stem((2,), 2),
        transformer=(TransformerParams(heads=heads, out_channels=192, mlp_ratio=4.0),) * 4,
    )


def _with_drop_path(params: EncoderParams, drop_path: float) -> EncoderParams:
    check_rates(dropout=0.0, drop_path=drop_path)
    last = max(len(params.transformer) - 1, 1)
    blocks = tuple(replace(block, drop_path=drop_path * i / last) for i, block in enumerate(params.transformer))
    stack = params.global_attention
    return replace(params, transformer=blocks, global_attention=stack and replace(stack, drop_path=drop_path))


def _named() -> dict[str, Callable[[], EncoderParams]]:
    pyramids: dict[str, Callable[[], EncoderParams]] = {
        f"eyetoy{dim}d_{name}": lambda dim=dim, size=size: _pyramid(dim, size)  # type: ignore[misc]
        for dim in _RANKS
        for name, size in _SIZES.items()
    }
    return pyramids | {"eyetoy2d_preliminary": _preliminary}


_NAMED = _named()
