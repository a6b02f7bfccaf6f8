"""Backbones of dense predictors: this project's encoders, or models of timm with `features_only`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy import Classifier, FeaturePyramid, create_pyramid
from eyetoy.hub import WEIGHTS
from eyetoy_train import ModelRecipe
from eyetoy_train.models.build import find_checkpoint, prepare_model
from eyetoy_train.models.external import TIMM, import_timm, refuse_weight_arguments, split_name

FLEXIBLE: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
"""Arguments for timm's models to accept images of any size, tried in this order; convolutional models need none."""


class TimmPyramid(nn.Module):
    """A model of timm as a backbone: from images to maps `[batch, channels, height, width]`, fine to coarse.

    Args:
        name: name of the model in timm.
        out_indices: the stages to use; all if not given.
        options: further arguments of the model.

    Raises:
        ValueError: timm is not installed or has no such model, or the model has no features or no such argument.
    """

    def __init__(self, name: str, out_indices: Sequence[int] | None, options: dict[str, Any]) -> None:
        super().__init__()
        chosen = {} if out_indices is None else {"out_indices": tuple(out_indices)}
        self.model: Any = _create(name, chosen | options)
        self.channels: list[int] = self.model.feature_info.channels()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps."""
        maps: list[Tensor] = self.model(x)
        # Swin and a few others keep channels last, also in their maps.
        return [x.movedim(-1, 1) for x in maps] if self.model.output_fmt == "NHWC" else maps

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of blocks in the backward pass.

        Raises:
            ValueError: the model does not support it.
        """
        if not hasattr(self.model, "set_grad_checkpointing"):
            raise ValueError("model.grad_checkpointing is on, and timm's model does not know it")
        self.model.set_grad_checkpointing(enable)


def pyramid_strides(pyramid: nn.Module) -> list[int]:
    """Return how many rows of the image one row of each map stands for, fine to coarse.

    Args:
        pyramid: from `build_pyramid`.
    """
    levels: Any = pyramid.model.feature_info if isinstance(pyramid, TimmPyramid) else pyramid.feature_info
    return [stride if isinstance(stride, int) else stride[0] for stride in levels.reduction()]


def build_pyramid(recipe: ModelRecipe, out_indices: Sequence[int] | None) -> tuple[nn.Module, list[int]]:
    """Return the backbone that a recipe names, with new weights or the recipe's, and the channels of its maps.

    Args:
        recipe: the model's part of a recipe.
        out_indices: the stages to use; all if not given.

    Raises:
        ValueError: there is no such model, it has no such stage, or it does not take one of the recipe's options.
    """
    if recipe.dropout:
        raise ValueError(f"model.dropout is for the head of a classifier, and this has none; got {recipe.dropout}")
    external = split_name(recipe.name, TIMM)
    if external is not None:
        for key in ("stem_strides", "weights"):
            if getattr(recipe, key) is not None:
                raise ValueError(f"model.{key} is for this project's encoders; got {recipe.name}")
        drop_path = {"drop_path_rate": recipe.drop_path} if recipe.drop_path else {}
        pyramid = TimmPyramid(external[1], out_indices, drop_path | recipe.options)
        return prepare_model(pyramid, recipe), pyramid.channels
    try:
        own = create_pyramid(
            recipe.name,
            out_indices=out_indices,
            stem_strides=recipe.stem_strides,
            drop_path=recipe.drop_path,
            **recipe.options,
        )
    except TypeError as error:  # an option that `create_pyramid` does not have
        raise ValueError(f"model.options {recipe.options} do not fit {recipe.name}: {error}") from error
    if recipe.weights is not None:
        _load_encoder(own, recipe.weights)
    return prepare_model(own, recipe), [info.num_chs for info in own.feature_info]


def count_maps(recipe: ModelRecipe, out_indices: Sequence[int] | None) -> int:
    """Return the number of maps of the backbone that a recipe names, without making its weights; errors as above."""
    with torch.device("meta"):
        return len(build_pyramid(replace(recipe, weights=None), out_indices)[1])


def _load_encoder(pyramid: FeaturePyramid, weights: str) -> None:
    """Load the encoder of a trained classifier, or of another dense predictor's run."""
    if Path(weights).exists():
        found = load_file(find_checkpoint(Path(weights)) / WEIGHTS)
    else:
        found = Classifier.from_pretrained(weights).state_dict()
    # "encoder.norm.weight" of a classifier, and "backbone.encoder.norm.weight" of a segmenter.
    trained = {name.partition("encoder.")[2]: value for name, value in found.items() if "encoder." in name}
    try:
        pyramid.encoder.load_state_dict(trained)
    except RuntimeError as error:
        raise ValueError(f"model.weights {weights} are of another encoder: {str(error)[:500]}") from error


def _create(name: str, options: dict[str, Any]) -> Any:
    timm = import_timm()
    if not timm.is_model(name):
        raise ValueError(f"timm has no model named {name!r}")
    refuse_weight_arguments(options)
    # A model that does not know an argument raises a TypeError. The last attempt has none of them, so that its error is
    # about the recipe's options.
    for flexible in FLEXIBLE:
        try:
            return timm.create_model(name, pretrained=False, features_only=True, **flexible | options)
        except TypeError as error:
            refused = error
        except RuntimeError as error:
            raise ValueError(f"timm's {name} gives no features: {error}") from error
    raise ValueError(f"model.options {options} do not fit timm's {name}: {refused}") from refused
