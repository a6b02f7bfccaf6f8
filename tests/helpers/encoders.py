"""Encoders and blocks of a few channels."""

from __future__ import annotations

from typing import Any

import eyetoy

OTHER_SIZES = {1: (2,), 2: (3, 2), 3: (2, 1, 3)}
"""A stride that differs from axis to axis."""


def head_group(
    *, window: Any = 3, stride: Any = 1, num_heads: int = 2, channels: int = 6, **attention: Any
) -> eyetoy.HeadParams:
    """Return a head group whose kernel equals its stride."""
    return eyetoy.HeadParams(
        conv_params=eyetoy.ConvParams(kernel_size=stride, stride=stride),
        attn_params=eyetoy.AttentionParams(attention_window=window, **attention),
        num_heads=num_heads,
        intermediate_channels=channels,
    )


def block(*, out_channels: int = 12, **changes: Any) -> eyetoy.TransformerParams:
    """Return a block with a fine and a coarse head group."""
    heads = changes.pop("heads", (head_group(window=3), head_group(window=5, stride=2)))
    return eyetoy.TransformerParams(heads=heads, out_channels=out_channels, **changes)


def encoder_params(dimension: int, **changes: Any) -> eyetoy.EncoderParams:
    """Return an encoder with every part: two convolutions, a downsampling block with a local one, a global stack."""
    fields: dict[str, Any] = {
        "num_spatial_dims": dimension,
        "in_channels": 3,
        "stem_channels": 12,
        "initial_proj": (eyetoy.ConvParams(kernel_size=3, stride=2), eyetoy.ConvParams(kernel_size=3)),
        "transformer": (block(), block(out_channels=16, scale_factor=0.5, mlp_ratio=2.0, local_kernel=3)),
        "global_attention": eyetoy.GlobalAttentionParams(depth=2, num_heads=2),
    }
    return eyetoy.EncoderParams(**(fields | changes))
