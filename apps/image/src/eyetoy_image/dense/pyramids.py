"""Backbones of dense predictors: this project's encoders, or models of timm with `features_only`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from eyetoy import FeaturePyramid, encoder_params
from eyetoy_train import ModelRecipe
from eyetoy_train.models.build import prepare_model
from eyetoy_train.models.external import TIMM, import_timm, refuse_weight_arguments, require_timm_model, split_name
from eyetoy_train.models.transfer import Trained, load_encoder, read_trained

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
        chosen = {"out_indices": tuple(out_indices)} if out_indices else {}
        try:
            self.model: Any = _create(name, chosen | options)
        except (IndexError, AssertionError):  # timm's for a stage that there is not, also among those of its own choice
            self.model, out_indices = _create(name, {"out_indices": (0,)} | options), out_indices or []
        stages = [(level["num_chs"], level["reduction"]) for level in self.model.feature_info.info]
        _check_stages(f"timm/{name}", out_indices, stages)
        self.is_channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"  # EfficientNets do not tell
        self.channels: list[int] = self.model.feature_info.channels()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps."""
        maps: list[Tensor] = self.model(x)
        # Swin and a few others keep channels last, also in their maps.
        return [x.movedim(-1, 1) for x in maps] if self.is_channels_last else maps

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of blocks in the backward pass.

        Raises:
            ValueError: the model does not support it.
        """
        if not hasattr(self.model, "set_grad_checkpointing"):
            raise ValueError("model.grad_checkpointing is on, and timm's model does not know it")
        self.model.set_grad_checkpointing(enable)


def pyramid_strides(pyramid: nn.Module) -> list[int]:
    """Return how many pixels of the image one step on each map stands for, fine to coarse.

    Args:
        pyramid: from `build_pyramid`.

    Raises:
        ValueError: the height and the width of a map have different strides.
    """
    levels: Any = pyramid.model.feature_info if isinstance(pyramid, TimmPyramid) else pyramid.feature_info
    strides: list[int] = levels.reduction()
    if uneven := [stride for stride in strides if not isinstance(stride, int)]:
        raise ValueError(
            f"a detector needs maps with the same stride along height and width; one has {uneven[0]}: give "
            "model.stem_strides one number for each convolution"
        )
    return strides


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
        if recipe.stem_strides is not None:
            raise ValueError(
                f"model.stem_strides is for this project's encoders; got {recipe.name}: give --model.stem_strides null"
            )
        drop_path = {"drop_path_rate": recipe.drop_path} if recipe.drop_path else {}
        pyramid = TimmPyramid(external[1], out_indices, drop_path | recipe.options)
        if recipe.weights is not None:
            _load_timm(pyramid, external[1], read_trained(recipe.weights))
        return prepare_model(pyramid, recipe), pyramid.channels
    try:
        params = encoder_params(
            recipe.name, stem_strides=recipe.stem_strides, drop_path=recipe.drop_path, **recipe.options
        )
    except TypeError as error:  # an option that `encoder_params` does not have
        raise ValueError(f"model.options {recipe.options} do not fit {recipe.name}: {error}") from error
    strides = [max(stride) for stride in params.stage_reductions]
    _check_stages(recipe.name, out_indices, list(zip(params.stage_channels, strides, strict=True)))
    own = FeaturePyramid(params, out_indices)
    if recipe.weights is not None:
        load_encoder(own.encoder, read_trained(recipe.weights))
    return prepare_model(own, recipe), [info.num_chs for info in own.feature_info]


def map_strides(recipe: ModelRecipe, out_indices: Sequence[int] | None) -> list[int]:
    """Return `pyramid_strides` of the backbone that a recipe names, without making its weights; errors as above."""
    with torch.device("meta"):
        return pyramid_strides(build_pyramid(replace(recipe, weights=None), out_indices)[0])


def _check_stages(name: str, out_indices: Sequence[int] | None, stages: Sequence[tuple[int, int]]) -> None:
    """Check the choice of stages, given the channels and the stride of all that there are.

    Raises:
        ValueError: one is not there, or they are not in order. The message has all of them.
    """
    if out_indices is None:
        return
    places = [index + len(stages) if index < 0 else index for index in out_indices]
    if not places or places != sorted(set(places)) or not 0 <= places[0] <= places[-1] < len(stages):
        known = ", ".join(f"{i} ({channels} channels, stride {stride})" for i, (channels, stride) in enumerate(stages))
        raise ValueError(
            f"out_indices must name stages of {name}, from fine to coarse, each once; there are {known}; got "
            f"{list(out_indices)}"
        )


def _load_timm(pyramid: TimmPyramid, name: str, trained: Trained) -> None:
    """Load the backbone of a classifier of timm, or of another dense predictor with one.

    Raises:
        ValueError: it is another model, or one of another size.
    """
    found = _timm_name(trained)
    if found != name:
        held = f"timm/{found}" if found else f"a {trained.kind or 'model of no known kind'} without a model of timm"
        raise ValueError(f"model.weights {trained.name} hold {held}, and model.name is timm/{name}")
    # With `features_only`, timm calls the same weights otherwise: of a classifier's "blocks.0.1.conv.weight" it makes
    # "blocks_0.1.conv.weight", and others it puts into one more "model.".
    given = {_plain(key): value for key, value in trained.weights.items() if ".model." in f".{key}"}
    own = pyramid.state_dict()
    wrong = [key for key, value in own.items() if getattr(given.get(_plain(key)), "shape", None) != value.shape]
    if wrong:
        there, here = given.get(_plain(wrong[0])), list(own[wrong[0]].shape)
        shape = "missing" if there is None else list(there.shape)
        raise ValueError(
            f"model.weights {trained.name} do not fit the backbone timm/{name}: {wrong[0]} is {shape} there and {here} "
            "here; the recipes must have the same model.options, and a transformer's pictures one size"
        )
    pyramid.load_state_dict({key: given[_plain(key)] for key in own})


def _timm_name(trained: Trained) -> str:
    """Return the name in timm of the trained model, or of the backbone of a trained dense predictor; "" for none."""
    model = trained.config.get("model")
    whole = str(model.get("name", "")) if isinstance(model, dict) else f"timm/{trained.config.get('timm', '')}"
    return whole.removeprefix("timm/") if whole.startswith("timm/") else ""


def _plain(name: str) -> str:
    """Return a weight's name after the last "model.", the same with and without `features_only`."""
    return f".{name}".rpartition(".model.")[2].replace("_", ".")


def _create(name: str, options: dict[str, Any]) -> Any:
    timm = import_timm()
    require_timm_model(timm, name)
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
