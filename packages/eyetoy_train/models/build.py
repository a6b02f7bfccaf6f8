"""Any classifier by name: this project's, or another's, built, saved and loaded alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy import Classifier, create_model
from eyetoy_train.checkpoint.atomic import named
from eyetoy_train.models.external import CONFIG, TIMM, WEIGHTS, Families, OtherModel, load_other_model, split_name
from eyetoy_train.recipe import ModelRecipe
from eyetoy_train.utils.untrusted import read_json


@runtime_checkable
class SavedModel(Protocol):
    """A module that writes all that `load_classifier` needs."""

    def save_pretrained(self, folder: Path) -> Any:
        """Write weights (safetensors) and a JSON config to a folder."""


def build_classifier(
    recipe: ModelRecipe,
    *,
    num_classes: int,
    in_channels: int | None = None,
    grid: Sequence[int] | None = None,
    families: Families = TIMM,
) -> nn.Module:
    """Return the classifier that a recipe names, with new weights.

    Args:
        recipe: the model's part of a recipe.
        num_classes: how many logits.
        in_channels: channels of the input; the usual number of the modality by default.
        grid: spatial size of the input, for models that are built for one.
        families: other projects' models that a name with a stroke may mean.

    Raises:
        ValueError: there is no such model, or it does not take one of the recipe's options.
    """
    model: nn.Module
    other = split_name(recipe.name, families)
    if other is None:
        model = _build_own(recipe, num_classes, in_channels)
    else:
        if recipe.stem_strides is not None:
            raise ValueError(f"model.stem_strides is for this project's models; {recipe.name} has a stem of its own")
        arguments: dict[str, Any] = {
            "num_classes": num_classes,
            "in_channels": 3 if in_channels is None else in_channels,
            "drop_path": recipe.drop_path,
            "dropout": recipe.dropout,
        }
        model = OtherModel(*other, arguments | recipe.options, grid, families)
    if recipe.weights is not None:
        model = _with_weights(model, recipe.weights)
    return prepare_model(model, recipe)


def _build_own(recipe: ModelRecipe, num_classes: int, in_channels: int | None) -> Classifier:
    strides = recipe.stem_strides
    try:
        return create_model(
            recipe.name,
            num_classes=num_classes,
            in_channels=in_channels,
            stem_strides=None if strides is None else [_stride(stride) for stride in strides],
            drop_path=recipe.drop_path,
            dropout=recipe.dropout,
            **recipe.options,
        )
    except TypeError as error:
        raise ValueError(f"model.options {recipe.options} do not fit {recipe.name}: {error}") from error


def _with_weights(model: nn.Module, weights: str) -> nn.Module:
    """Return the model with trained weights, adapted to its classes and channels if it is one of this project's."""
    folder = find_checkpoint(Path(weights)) if Path(weights).exists() else weights
    try:
        if isinstance(model, Classifier):
            params = model.encoder.params
            model = Classifier.from_pretrained(
                folder, params=params, num_classes=model.num_classes, dropout=model.dropout
            )
        else:
            model.load_state_dict(load_file(find_checkpoint(Path(weights)) / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"model.weights {weights} are of another model: {str(error)[:500]}") from error
    return model.train()


def prepare_model(model: nn.Module, recipe: ModelRecipe) -> nn.Module:
    """Set what a recipe asks of a model's computation, whatever its weights, and return the model."""
    if recipe.grad_checkpointing:
        checkpointing: Any = model.set_grad_checkpointing
        checkpointing()
    if recipe.channels_last:
        for parameter in model.parameters():
            parameter.data = _channels_last(parameter.data)
        model.register_forward_pre_hook(lambda module, inputs: tuple(_channels_last(x) for x in inputs))
    return model


def _channels_last(x: Tensor) -> Tensor:
    """Return `[batch, channels, ...]` with the channels innermost in memory; PyTorch knows how in 2-D and 3-D."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.to(memory_format=formats[x.ndim]) if x.ndim in formats else x


def load_classifier(folder: Path, families: Families = TIMM) -> nn.Module:
    """Return the classifier that `save_pretrained` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: its config is no JSON.
        CheckpointError: config and weights do not make a model; the message says why.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no {CONFIG}")
    config = read_json(folder / CONFIG)
    with named(folder):
        other = load_other_model(folder, config, families)
        return Classifier.from_pretrained(folder) if other is None else other.eval()


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that `path` means: itself, or the best one of a run.

    Raises:
        FileNotFoundError: there is none.
    """
    for folder in (path, path / "checkpoints" / "best"):
        if (folder / WEIGHTS).is_file():
            return folder
    raise FileNotFoundError(
        f"{path} holds no checkpoint; give a run folder such as runs/digits, or a folder with model.safetensors"
    )


def best_device() -> torch.device:
    """Return this machine's accelerator, or its CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _stride(stride: int | list[int]) -> int | tuple[int, ...]:
    return stride if isinstance(stride, int) else tuple(stride)
