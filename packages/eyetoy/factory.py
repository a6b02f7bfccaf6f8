"""Models by name: `create_model("eyetoy2d_nano", num_classes=10)`, here and in timm's registry.

`eyetoy.presets` says what each name is made of; a new function there is a new name here.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, TypedDict, Unpack, cast

from torch import nn

from eyetoy.classifier import Classifier
from eyetoy.encoder import ENCODERS, Encoder
from eyetoy.inflation import Inflation, inflated
from eyetoy.params import EncoderParams, FilterbankParams, Pool
from eyetoy.presets import IN_CHANNELS, MODELS, stem
from eyetoy.pyramid import FeaturePyramid
from eyetoy.sizes import Size, check_rates
from eyetoy.variants import Changes, changed


class EncoderOptions(TypedDict, total=False):
    """Options that every `create_...` passes on to `encoder_params`; see there for their meaning."""

    in_channels: int | None
    stem_strides: Sequence[Size | Sequence[int]] | None
    filterbank: FilterbankParams | Mapping[str, Any] | None
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
    stem_strides: Sequence[Size | Sequence[int]] | None = None,
    filterbank: FilterbankParams | Mapping[str, Any] | None = None,
    drop_path: float = 0.0,
    layer_scale: float | None = None,
    changes: Changes | Mapping[str, Any] | None = None,
    inflate: Inflation | Mapping[str, int] | None = None,
) -> EncoderParams:
    """Return the parameters of a named encoder.

    Args:
        name: one of `list_models()`.
        in_channels: channels of the input; by default 1 for sound and 3 for images and video.
        stem_strides: strides of the stem's convolutions, for inputs of another size than usual: `(2,)` turns a picture
            of 16 × 16 pixels into 8 × 8 tokens.
        filterbank: a learned filterbank before the stem, for waveforms; a mapping has the fields of `FilterbankParams`.
            The stem then has one convolution of stride 1, unless `stem_strides` are given.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
        layer_scale: initial value of a learned scale per channel on every residual branch (CaiT); None for no scale.
        changes: changes to the model, for ablations; a mapping has the fields of `Changes`.
        inflate: turn an encoder of images into one of video; a mapping, such as `{}`, has the fields of `Inflation`.

    Raises:
        ValueError: no model has this name (the message lists all names), or it cannot be changed or inflated so.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no model is named {name!r}; there are {', '.join(list_models())}{meant}")
    check_rates(dropout=0.0, drop_path=drop_path)
    params = MODELS[name]()
    dim = params.num_spatial_dims
    params = replace(params, in_channels=IN_CHANNELS[dim] if in_channels is None else in_channels)
    # The order matters: strides and changes are given in the dimensions of the named model, inflation comes after them.
    if filterbank is not None:
        bank = filterbank if isinstance(filterbank, FilterbankParams) else FilterbankParams(**filterbank)
        params = replace(params, filterbank=bank, initial_proj=stem((1,), dim))
    if stem_strides is not None:
        params = replace(params, initial_proj=stem(stem_strides, dim))
    if changes is not None:
        params = changed(params, changes if isinstance(changes, Changes) else Changes(**changes))
    if inflate is not None:
        params = inflated(params, inflate if isinstance(inflate, Inflation) else Inflation(**inflate))
    last = max(len(params.transformer) - 1, 1)
    blocks = tuple(
        replace(block, drop_path=drop_path * i / last, layer_scale=layer_scale)
        for i, block in enumerate(params.transformer)
    )
    stack = params.global_attention and replace(params.global_attention, drop_path=drop_path, layer_scale=layer_scale)
    return replace(params, transformer=blocks, global_attention=stack)


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
    out_indices: int | Sequence[int] | None = None,
    **options: Unpack[EncoderOptions],
) -> FeaturePyramid:
    """Build a named encoder as a backbone; arguments and errors as in `encoder_params` and `FeaturePyramid`."""
    params = encoder_params(name, **options)
    return FeaturePyramid(params, out_indices)


def register_timm_models() -> list[str]:
    """Register the models for images with timm, `eyetoy2d_nano` as `eyetoy_nano`, and return these names.

    `timm.create_model("eyetoy_nano")` then takes `num_classes`, `in_chans`, `global_pool`, `drop_rate`,
    `drop_path_rate`, `features_only`, `out_indices` and `pretrained_cfg`, as for timm's own models. The models have the
    `pretrained_cfg` from which timm takes the size and the normalisation of pictures: by default those of the recipes
    for ImageNet. timm reads no config beside a `checkpoint_path`: for weights trained otherwise, give
    `pretrained_cfg_overlay`.

    Raises:
        ModuleNotFoundError: timm is not installed.
    """
    timm = import_module("timm.models")
    entries = [_timm_entry(name) for name in list_models("eyetoy2d_*")]
    for entry in entries:
        if not timm.is_model(entry.__name__):  # timm warns of a second time
            timm.register_model(entry)
    return [entry.__name__ for entry in entries]


def _timm_entry(name: str) -> Callable[..., nn.Module]:
    def build(
        pretrained: bool = False,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: Pool | None = None,
        features_only: bool = False,
        out_indices: int | Sequence[int] | None = None,
        pretrained_cfg: Mapping[str, Any] | None = None,
        pretrained_cfg_overlay: Mapping[str, Any] | None = None,
        **of_timm: Any,
    ) -> nn.Module:
        # timm hands this one to every model, too; anything else would be a typo, and must not pass in silence.
        unknown = sorted(set(of_timm) - {"cache_dir"})
        if unknown:
            raise TypeError(f"{build.__name__} takes no {', '.join(unknown)}")
        if pretrained:
            raise ValueError(
                f"there are no pretrained weights of {build.__name__}; train some, and use from_pretrained"
            )
        if isinstance(pretrained_cfg, str):  # "eyetoy_nano.in1k": what stands after the point names weights
            raise ValueError(f"there are no pretrained weights {build.__name__}.{pretrained_cfg}")
        config = (
            _timm_config(build.__name__, in_chans) | dict(pretrained_cfg or {}) | dict(pretrained_cfg_overlay or {})
        )
        model: Any
        if features_only:
            model = create_pyramid(name, out_indices=out_indices, in_channels=in_chans, drop_path=drop_path_rate)
        else:
            model = create_model(
                name, num_classes=num_classes, in_channels=in_chans, drop_path=drop_path_rate, dropout=drop_rate
            )
            if global_pool is not None:
                model.set_pool(global_pool)
            config |= {"num_classes": num_classes, "classifier": "head"}
        # An older and a newer name, of which timm's scripts read either.
        model.default_cfg = model.pretrained_cfg = config
        return cast("nn.Module", model)

    # The registry goes by the function's name, and looks its module up in `sys.modules`.
    build.__name__ = name.replace("eyetoy2d", "eyetoy")
    build.__module__ = __name__
    return build


def _timm_config(name: str, in_channels: int) -> dict[str, Any]:
    """Return what timm's `resolve_data_config` reads: how the image app's recipes for ImageNet prepare pictures."""
    # Not ImageNet's mean and deviation, which timm uses most: weights trained by the app know pixels normalised so.
    return {
        "architecture": name,
        "input_size": (in_channels, 224, 224),
        "pool_size": None,
        "fixed_input_size": False,
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "mean": (0.5,) * in_channels,
        "std": (0.25,) * in_channels,
        "first_conv": "encoder.initial_proj.convs.0",
    }
