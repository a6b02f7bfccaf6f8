"""Backbones of dense predictors: this project's encoders, or models of timm with `features_only`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy import Classifier, FeaturePyramid, create_pyramid
from eyetoy.hub import WEIGHTS
from eyetoy_train import ModelRecipe
from eyetoy_train.models.build import find_checkpoint, prepare_model
from eyetoy_train.models.external import TIMM, import_timm, refuse_weight_arguments, require_timm_model, split_name

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
        if out_indices is not None and (not out_indices or sorted(set(out_indices)) != list(out_indices)):
            raise ValueError(f"out_indices must name one stage or more, from fine to coarse; got {list(out_indices)}")
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
                raise ValueError(
                    f"model.{key} is for this project's encoders; got {recipe.name}: give --model.{key} null"
                )
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
        except (IndexError, AssertionError) as error:  # of a stage that the model does not have
            if "out_indices" not in options:
                raise
            stages = _stages(name, options)
            raise ValueError(
                f"timm's {name} has the stages 0 to {len(stages) - 1}, and out_indices are "
                f"{list(options['out_indices'])}; take some of them, such as {_usual(stages)}"
            ) from error
    raise ValueError(f"model.options {options} do not fit timm's {name}: {refused}") from refused


def _stages(name: str, options: dict[str, Any]) -> list[int]:
    """Return by how much each stage of a model of timm is coarser than its input."""
    others = {key: value for key, value in options.items() if key != "out_indices"}
    model = import_timm().create_model(name, pretrained=False, **others)
    return [stage["reduction"] for stage in model.feature_info]


def _usual(stages: list[int]) -> list[int]:
    """Return the stages that dense predictors use: a quarter as fine as the input, or coarser.

    For example [1, 2, 3, 4] for the reductions 2, 4, 8, 16, 32; and [2, 5, 8, 11] for twelve blocks of one size.
    """
    if len(set(stages)) > 1:
        return [index for index, reduction in enumerate(stages) if reduction >= 4]
    quarter = max(len(stages) // 4, 1)
    return list(range(quarter - 1, len(stages), quarter))
