"""Encoders as backbones of dense predictors: this project's, or any of timm's that gives features."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy import Classifier, FeaturePyramid, create_pyramid
from eyetoy_train import ModelRecipe
from eyetoy_train.models.build import find_checkpoint, prepare_model
from eyetoy_train.models.external import TIMM, refuse_foreign_weights, split_name

FLEXIBLE: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
"""By what names models of timm are asked to take pictures of any size; convolutional ones always do."""


class TimmPyramid(nn.Module):
    """A model of timm as a backbone, from pictures to maps `[batch, channels, height, width]`, fine to coarse.

    Raises:
        ValueError: timm is not installed, has no such model, or the model gives no features or takes no such argument.
    """

    def __init__(self, name: str, out_indices: Sequence[int] | None, options: dict[str, Any]) -> None:
        super().__init__()
        chosen = {} if out_indices is None else {"out_indices": tuple(out_indices)}
        self.model: Any = _create(name, chosen | options)
        self.channels: list[int] = self.model.feature_info.channels()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps."""
        maps: list[Tensor] = self.model(x)
        return [x.movedim(-1, 1) for x in maps] if self.model.output_fmt == "NHWC" else maps

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the inside of blocks again in the backward pass.

        Raises:
            ValueError: the model cannot.
        """
        if not hasattr(self.model, "set_grad_checkpointing"):
            raise ValueError("model.grad_checkpointing is on, and timm's model does not know it")
        self.model.set_grad_checkpointing(enable)


def build_pyramid(recipe: ModelRecipe, out_indices: Sequence[int] | None) -> tuple[nn.Module, list[int]]:
    """Return the backbone that a recipe names, with new weights or those it names, and the channels of its maps.

    Args:
        recipe: the model's part of a recipe.
        out_indices: the stages to use; all if not given.

    Raises:
        ValueError: there is no such model, it has no such stage, or it does not take one of the recipe's options.
    """
    if recipe.dropout:
        raise ValueError(f"model.dropout is for the head of a classifier, and this has none; got {recipe.dropout}")
    other = split_name(recipe.name, TIMM)
    if other is not None:
        return _build_other(recipe, other[1], out_indices)
    own = _build_own(recipe, out_indices)
    return prepare_model(own, recipe), [info.num_chs for info in own.feature_info]


def _build_other(recipe: ModelRecipe, name: str, out_indices: Sequence[int] | None) -> tuple[nn.Module, list[int]]:
    for key in ("stem_strides", "weights"):
        if getattr(recipe, key) is not None:
            raise ValueError(f"model.{key} is for this project's encoders; got {recipe.name}")
    drop_path = {"drop_path_rate": recipe.drop_path} if recipe.drop_path else {}
    pyramid = TimmPyramid(name, out_indices, drop_path | recipe.options)
    return prepare_model(pyramid, recipe), pyramid.channels


def _build_own(recipe: ModelRecipe, out_indices: Sequence[int] | None) -> FeaturePyramid:
    strides = recipe.stem_strides
    try:
        pyramid = create_pyramid(
            recipe.name,
            out_indices=out_indices,
            stem_strides=None if strides is None else [s if isinstance(s, int) else tuple(s) for s in strides],
            drop_path=recipe.drop_path,
            **recipe.options,
        )
    except TypeError as error:
        raise ValueError(f"model.options {recipe.options} do not fit {recipe.name}: {error}") from error
    if recipe.weights is not None:
        _load_encoder(pyramid, recipe.weights)
    return pyramid


def _load_encoder(pyramid: FeaturePyramid, weights: str) -> None:
    """Load the encoder of a trained classifier, or of another dense predictor's run."""
    if Path(weights).exists():
        found = load_file(find_checkpoint(Path(weights)) / "model.safetensors")
    else:
        found = Classifier.from_pretrained(weights).state_dict()
    trained = {name.partition("encoder.")[2]: value for name, value in found.items() if "encoder." in name}
    try:
        pyramid.encoder.load_state_dict(trained)
    except RuntimeError as error:
        raise ValueError(f"model.weights {weights} are of another encoder: {str(error)[:500]}") from error


def _create(name: str, options: dict[str, Any]) -> Any:
    try:
        timm = import_module("timm")
    except ModuleNotFoundError as error:
        raise ValueError("models named timm/... need timm: pip install timm") from error
    if not timm.is_model(name):
        raise ValueError(f"timm has no model named {name!r}")
    refuse_foreign_weights(options)
    for flexible in FLEXIBLE:
        try:
            return timm.create_model(name, pretrained=False, features_only=True, **flexible | options)
        except TypeError as error:
            refused = error
        except RuntimeError as error:
            raise ValueError(f"timm's {name} gives no features: {error}") from error
    raise ValueError(f"model.options {options} do not fit timm's {name}: {refused}") from refused
