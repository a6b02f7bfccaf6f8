"""Named models: `create_model("eyetoy2d_nano", num_classes=10)`. What they are made of stands in `eyetoy.presets`."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from eyetoy.classifier import Classifier
from eyetoy.encoder import ENCODERS, Encoder
from eyetoy.inflation import Inflation, inflated
from eyetoy.params import EncoderParams
from eyetoy.presets import IN_CHANNELS, MODELS, stem
from eyetoy.pyramid import FeaturePyramid
from eyetoy.sizes import Size, check_rates
from eyetoy.variants import Changes, changed


class EncoderOptions(TypedDict, total=False):
    """What every `create_...` passes on to `encoder_params`, which says what each is."""

    in_channels: int | None
    stem_strides: Sequence[Size] | None
    drop_path: float
    layer_scale: float | None
    changes: Changes | Mapping[str, Any] | None
    inflate: Inflation | Mapping[str, int] | None


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a shell pattern, such as `"eyetoy2d_*"`."""
    return sorted(fnmatch.filter(MODELS, pattern))


def encoder_params(
    name: str,
    *,
    in_channels: int | None = None,
    stem_strides: Sequence[Size] | None = None,
    drop_path: float = 0.0,
    layer_scale: float | None = None,
    changes: Changes | Mapping[str, Any] | None = None,
    inflate: Inflation | Mapping[str, int] | None = None,
) -> EncoderParams:
    """Return the parameters of a named encoder.

    Args:
        name: one of `list_models()`.
        in_channels: channels of the input; 1 for sound and 3 for images and video by default.
        stem_strides: strides of the stem's convolutions, for inputs smaller or larger than the usual ones: `(2,)`
            keeps pictures of 16 × 16 at 8 × 8 tokens.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
        layer_scale: initial value of a learned scale per channel on every residual branch (CaiT); none by default.
        changes: what to change of the model, for ablations; a mapping has the fields of `Changes`.
        inflate: make an encoder of pictures one of clips; a mapping, such as `{}`, has the fields of `Inflation`.

    Raises:
        ValueError: no model has this name, and the message lists those that there are; or it cannot be changed or
            inflated so.
    """
    if name not in MODELS:
        raise ValueError(f"no model is named {name!r}; there are {', '.join(list_models())}")
    params = MODELS[name]()
    dim = params.num_spatial_dims
    params = replace(params, in_channels=IN_CHANNELS[dim] if in_channels is None else in_channels)
    if stem_strides is not None:
        params = replace(params, initial_proj=stem(stem_strides, dim))
    if changes is not None:
        params = changed(params, changes if isinstance(changes, Changes) else Changes(**changes))
    if inflate is not None:
        params = inflated(params, inflate if isinstance(inflate, Inflation) else Inflation(**inflate))
    return _with_branches(params, drop_path, layer_scale)


def create_encoder(name: str, **options: Unpack[EncoderOptions]) -> Encoder:
    """Build a named encoder; arguments and errors as in `encoder_params`."""
    params = encoder_params(name, **options)
    return ENCODERS[params.num_spatial_dims](params)


def create_model(
    name: str,
    *,
    num_classes: int,
    dropout: float = 0.0,
    **options: Unpack[EncoderOptions],
) -> Classifier:
    """Build a named classifier; arguments and errors as in `encoder_params` and `Classifier`."""
    params = encoder_params(name, **options)
    return Classifier(params, num_classes, dropout)


def create_pyramid(
    name: str,
    *,
    out_indices: Sequence[int] | None = None,
    **options: Unpack[EncoderOptions],
) -> FeaturePyramid:
    """Build a named encoder as a backbone; arguments and errors as in `encoder_params` and `FeaturePyramid`."""
    params = encoder_params(name, **options)
    return FeaturePyramid(params, out_indices)


def _with_branches(params: EncoderParams, drop_path: float, layer_scale: float | None) -> EncoderParams:
    check_rates(dropout=0.0, drop_path=drop_path)
    last = max(len(params.transformer) - 1, 1)
    blocks = tuple(
        replace(block, drop_path=drop_path * i / last, layer_scale=layer_scale)
        for i, block in enumerate(params.transformer)
    )
    stack = params.global_attention and replace(params.global_attention, drop_path=drop_path, layer_scale=layer_scale)
    return replace(params, transformer=blocks, global_attention=stack)
