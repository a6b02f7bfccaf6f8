"""The named models: one function each, and its line in `MODELS`.

A name tells the number of dimensions and the size. From nano to base the families share one shape, four stages that
shrink the grid and widen the channels. All share one rule for the heads of a block: half of its width goes to the
finest scale, the coarser ones share the rest. The docstrings state parameters without a head, and floating-point
operations of one forward pass, two for each multiply-add, attention included (`eyetoy.flops.count_flops`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eyetoy.params import (
    AttentionParams,
    ConvParams,
    EncoderParams,
    GlobalAttentionParams,
    HeadParams,
    TransformerParams,
)
from eyetoy.sizes import Size, per_axis

Tokenizers = tuple[ConvParams | None, ...]
"""One per head group of a block, the finest first."""

IN_CHANNELS = {1: 1, 2: 3, 3: 3}
HEAD_DIM = 32
PATCHES = tuple(ConvParams(kernel_size=stride, stride=stride) for stride in (1, 2, 4))
# Motion in a clip shows between neighboring frames: overlapping tokens let a block see it before it attends. In the
# deep stages of a pyramid, a kernel in three dimensions would hold most of the parameters: there they overlap in time
# alone.
OVERLAPPING = (ConvParams(kernel_size=3), ConvParams(kernel_size=3, stride=2))
FRAMES = (ConvParams(kernel_size=(3, 1, 1)), ConvParams(kernel_size=(3, 2, 2), stride=2))


def eyetoy1d_pico() -> EncoderParams:
    """For a first look on a laptop: 0.4 M parameters, 0.11 GFLOPs at 1 × 16,000 samples."""
    return _sound((64, 96), (1, 2), head_dim=16)


def eyetoy1d_nano() -> EncoderParams:
    """3.2 M parameters, 0.28 GFLOPs at 1 × 16,000 samples."""
    return _sound((32, 64, 128, 256), (2, 2, 6, 2), head_dim=16)


def eyetoy1d_tiny() -> EncoderParams:
    """29.0 M parameters, 2.49 GFLOPs at 1 × 16,000 samples."""
    return _sound((96, 192, 384, 768), (2, 2, 6, 2))


def eyetoy1d_small() -> EncoderParams:
    """50.3 M parameters, 4.25 GFLOPs at 1 × 16,000 samples."""
    return _sound((96, 192, 384, 768), (2, 3, 12, 4))


def eyetoy1d_base() -> EncoderParams:
    """89.4 M parameters, 7.54 GFLOPs at 1 × 16,000 samples."""
    return _sound((128, 256, 512, 1024), (2, 3, 12, 4))


def eyetoy2d_pico() -> EncoderParams:
    """For a first look on a laptop: 0.5 M parameters, 0.89 GFLOPs at 3 × 224 × 224."""
    return _images((64, 96), (1, 2), head_dim=16)


def eyetoy2d_nano() -> EncoderParams:
    """3.0 M parameters, 0.81 GFLOPs at 3 × 224 × 224."""
    return _images((32, 64, 128, 256), (1, 2, 6, 1), head_dim=16)


def eyetoy2d_tiny() -> EncoderParams:
    """26.9 M parameters, 4.33 GFLOPs at 3 × 224 × 224."""
    return _images((64, 128, 256, 512), (1, 1, 7, 6))


def eyetoy2d_small() -> EncoderParams:
    """50.2 M parameters, 9.43 GFLOPs at 3 × 224 × 224."""
    return _images((64, 160, 320, 640), (1, 2, 14, 6))


def eyetoy2d_base() -> EncoderParams:
    """89.2 M parameters, 17.1 GFLOPs at 3 × 224 × 224."""
    return _images((96, 192, 384, 768), (2, 3, 16, 8))


def eyetoy2d_preliminary() -> EncoderParams:
    """Of the proposal (section 5.1), MSNAT alone: 2.9 M parameters, 0.71 GFLOPs at 3 × 32 × 32."""
    return _preliminary(width=192, depth=4, stem_strides=(2,))


def eyetoy2d_preliminary_35m() -> EncoderParams:
    """Of the proposal (section 5.1) for ImageNet, in our shape: 35.1 M parameters, 28.0 GFLOPs at 3 × 224 × 224."""
    return _preliminary(width=384, depth=12, stem_strides=(2, 2, 2))


def eyetoy3d_pico() -> EncoderParams:
    """For a first look on a laptop: 1.0 M parameters, 3.93 GFLOPs at 3 × 16 × 112 × 112."""
    return _video((64, 96), (1, 2), head_dim=16)


def eyetoy3d_nano() -> EncoderParams:
    """3.2 M parameters, 8.20 GFLOPs at 3 × 16 × 224 × 224."""
    return _video((32, 64, 128, 256), (1, 2, 3, 1), head_dim=16)


def eyetoy3d_tiny() -> EncoderParams:
    """29.7 M parameters, 46.5 GFLOPs at 3 × 16 × 224 × 224."""
    return _video((64, 128, 256, 512), (1, 2, 7, 4))


def eyetoy3d_small() -> EncoderParams:
    """53.0 M parameters, 85.5 GFLOPs at 3 × 16 × 224 × 224."""
    return _video((80, 160, 320, 640), (1, 2, 11, 4))


def eyetoy3d_base() -> EncoderParams:
    """94.5 M parameters, 163.6 GFLOPs at 3 × 16 × 224 × 224."""
    return _video((96, 192, 384, 768), (2, 3, 14, 5))


def nat_nano() -> EncoderParams:
    """NAT (Hassani et al., CVPR 2023) at the size of nano: 2.8 M parameters, 0.99 GFLOPs at 3 × 224 × 224."""
    return _nat((32, 64, 128, 256), (2, 2, 6, 2), head_dim=16)


def nat_tiny() -> EncoderParams:
    """NAT-T (Hassani et al., CVPR 2023) without its position bias: 27.3 M parameters, 8.59 GFLOPs at 3 × 224 × 224."""
    return _nat((64, 128, 256, 512), (3, 4, 18, 5), head_dim=HEAD_DIM)


MODELS: dict[str, Callable[[], EncoderParams]] = {
    model.__name__: model
    for model in (
        eyetoy1d_pico,
        eyetoy1d_nano,
        eyetoy1d_tiny,
        eyetoy1d_small,
        eyetoy1d_base,
        eyetoy2d_pico,
        eyetoy2d_nano,
        eyetoy2d_tiny,
        eyetoy2d_small,
        eyetoy2d_base,
        eyetoy2d_preliminary,
        eyetoy2d_preliminary_35m,
        eyetoy3d_pico,
        eyetoy3d_nano,
        eyetoy3d_tiny,
        eyetoy3d_small,
        eyetoy3d_base,
        nat_nano,
        nat_tiny,
    )
}


def _sound(widths: Sequence[int], depths: Sequence[int], head_dim: int = HEAD_DIM) -> EncoderParams:
    stages = [head_groups(PATCHES, 15, width, head_dim) for width in widths]
    return _pyramid(1, stages, widths, depths, stem_strides=(4, 4, 4), scale_factor=0.5)


def _images(widths: Sequence[int], depths: Sequence[int], head_dim: int = HEAD_DIM) -> EncoderParams:
    # From the third stage on, with a grid of 14 × 14 for 224 × 224 pixels, a window of 7 at a scale of 2 already spans
    # the grid. On larger images a coarser scale would see further there, but so does the global stack.
    scales = [PATCHES if stage < 2 else PATCHES[:2] for stage in range(len(widths))]
    stages = [head_groups(tokenizers, 7, width, head_dim) for tokenizers, width in zip(scales, widths, strict=True)]
    return _pyramid(2, stages, widths, depths, stem_strides=(2, 2), scale_factor=0.5)


def _video(widths: Sequence[int], depths: Sequence[int], head_dim: int = HEAD_DIM) -> EncoderParams:
    scales = [OVERLAPPING if stage < 2 else FRAMES for stage in range(len(widths))]
    stages = [
        head_groups(tokenizers, (3, 5, 5), width, head_dim) for tokenizers, width in zip(scales, widths, strict=True)
    ]
    strides: tuple[Size, ...] = (2, (1, 2, 2))
    return _pyramid(3, stages, widths, depths, stem_strides=strides, scale_factor=(1.0, 0.5, 0.5))


def _pyramid(
    num_spatial_dims: int,
    stages: Sequence[tuple[HeadParams, ...]],
    widths: Sequence[int],
    depths: Sequence[int],
    *,
    stem_strides: Sequence[Size],
    scale_factor: float | tuple[float, ...],
) -> EncoderParams:
    """Stack stages of blocks with the given heads and one global layer; every stage but the first shrinks the grid."""
    return EncoderParams(
        num_spatial_dims=num_spatial_dims,
        in_channels=IN_CHANNELS[num_spatial_dims],
        stem_channels=widths[0],
        initial_proj=stem(stem_strides, num_spatial_dims),
        transformer=_blocks(stages, widths, depths, scale_factor),
        global_attention=GlobalAttentionParams(depth=1, num_heads=widths[-1] // HEAD_DIM, context_init="mean"),
    )


def _nat(widths: Sequence[int], depths: Sequence[int], head_dim: int) -> EncoderParams:
    stages = [(_group(None, 7, channels=width, head_dim=head_dim),) for width in widths]
    return EncoderParams(
        num_spatial_dims=2,
        in_channels=3,
        stem_channels=widths[0],
        initial_proj=stem((2, 2), 2),
        transformer=_blocks(stages, widths, depths, scale_factor=0.5),
        positional_embedding=False,
    )


def _blocks(
    stages: Sequence[tuple[HeadParams, ...]],
    widths: Sequence[int],
    depths: Sequence[int],
    scale_factor: float | tuple[float, ...],
) -> tuple[TransformerParams, ...]:
    blocks: list[TransformerParams] = []
    for stage, (heads, width, depth) in enumerate(zip(stages, widths, depths, strict=True)):
        blocks += _stage(heads, width, depth, scale_factor=scale_factor if stage else 1.0)
    return tuple(blocks)


def _stage(
    heads: tuple[HeadParams, ...], width: int, depth: int, *, scale_factor: float | tuple[float, ...]
) -> list[TransformerParams]:
    first = TransformerParams(heads=heads, out_channels=width, scale_factor=scale_factor)
    return [first, *[TransformerParams(heads=heads, out_channels=width)] * (depth - 1)]


def head_groups(tokenizers: Tokenizers, window: Size, width: int, head_dim: int) -> tuple[HeadParams, ...]:
    """Give half of the width to the finest scale and share the rest among the coarser ones, if there are any."""
    # For example a width of 64 and three scales: 32, 16, 16.
    num_coarse = len(tokenizers) - 1
    widths = (width // 2, *_shares(width - width // 2, num_coarse, head_dim)) if num_coarse else (width,)
    return tuple(
        _group(tokenizer, window, channels=channels, head_dim=head_dim)
        for tokenizer, channels in zip(tokenizers, widths, strict=True)
    )


def _shares(width: int, count: int, head_dim: int) -> list[int]:
    """Return widths that add up to `width`: equal ones, or else as equal as whole heads allow, larger ones first."""
    unit = head_dim if width % count and width % head_dim == 0 and width // head_dim >= count else 1
    share, rest = divmod(width // unit, count)
    return [unit * (share + (place < rest)) for place in range(count)]


def _group(tokenizer: ConvParams | None, window: Size, *, channels: int, head_dim: int) -> HeadParams:
    return HeadParams(
        conv_params=tokenizer,
        attn_params=AttentionParams(attention_window=window),
        num_heads=max(channels // head_dim, 1),
        intermediate_channels=channels,
    )


def stem(strides: Sequence[Size | Sequence[int]], num_spatial_dims: int) -> tuple[ConvParams, ...]:
    """Return overlapping convolutions: a kernel of 3 for strides of 1 and 2, of 7 for a stride of 4."""
    spread = [per_axis(stride, num_spatial_dims, "stem_strides") for stride in strides]
    # Silence, padding and erased rectangles are zeros to the last bit. A norm then sees the biases alone; if these are
    # zeros too, it divides by sqrt(eps), and gradients grow by 316: with a rectangle erased, the first gradient of
    # eyetoy2d_nano was 20 to 40 times larger, and with padded clips and a stem of three norms, 10,000 times.
    return tuple(overlapping(stride, spread_bias=True) for stride in spread)


def overlapping(stride: Size, *, spread_bias: bool = False) -> ConvParams:
    """Return a convolution whose tokens share a border: a kernel of `2 * stride - 1`, at least 3."""
    kernel = tuple(max(2 * s - 1, 3) for s in stride) if isinstance(stride, tuple) else max(2 * stride - 1, 3)
    return ConvParams(kernel_size=kernel, stride=stride, spread_bias=spread_bias)


def _preliminary(*, width: int, depth: int, stem_strides: Sequence[Size]) -> EncoderParams:
    """Stack blocks of 4 groups of 2 heads, without a global stack."""
    heads = tuple(
        _group(ConvParams(kernel_size=stride, stride=stride), window, channels=width // 8, head_dim=width // 16)
        for stride, window in ((1, 17), (2, 13), (4, 11), (8, 7))
    )
    return EncoderParams(
        num_spatial_dims=2,
        in_channels=3,
        stem_channels=width,
        initial_proj=stem(stem_strides, 2),
        transformer=(TransformerParams(heads=heads, out_channels=width, mlp_ratio=4.0),) * depth,
    )
