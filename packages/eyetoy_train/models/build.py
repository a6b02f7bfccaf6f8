"""Build a classifier by name, this project's or another's, and load one from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy import Classifier, create_model
from eyetoy.hub import WEIGHTS
from eyetoy_train.models.external import TIMM, Families, split_name
from eyetoy_train.models.saved import ExternalModel, load_model
from eyetoy_train.recipe import ModelRecipe


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
        in_channels: channels of the input; by default the usual number of the modality.
        grid: spatial size of the input, for models that are built for one.
        families: other projects' models, for names with a slash.

    Raises:
        ValueError: there is no such model, or it does not take one of the recipe's options.
    """
    model: nn.Module
    external = split_name(recipe.name, families)
    if external is None:
        try:
            model = create_model(
                recipe.name,
                num_classes=num_classes,
                in_channels=in_channels,
                stem_strides=recipe.stem_strides,
                drop_path=recipe.drop_path,
                dropout=recipe.dropout,
                **recipe.options,
            )
        except TypeError as error:  # an option that `create_model` does not have
            raise ValueError(f"model.options {recipe.options} do not fit {recipe.name}: {error}") from error
    else:
        if recipe.stem_strides is not None:
            raise ValueError(
                f"model.stem_strides is for this project's models, and {recipe.name} has a stem of its own; give "
                "--model.stem_strides null"
            )
        arguments: dict[str, Any] = {
            "num_classes": num_classes,
            "in_channels": 3 if in_channels is None else in_channels,
            "drop_path": recipe.drop_path,
            "dropout": recipe.dropout,
        }
        model = ExternalModel(*external, arguments | recipe.options, grid, families)
    if recipe.weights is not None:
        model = _with_weights(model, recipe.weights)
    return prepare_model(model, recipe)


def _with_weights(model: nn.Module, weights: str) -> nn.Module:
    """Return the model with trained weights, in training mode; the core's models adapt them to classes and channels."""
    folder = find_checkpoint(Path(weights)) if Path(weights).exists() else weights
    try:
        if isinstance(model, Classifier):
            params = model.encoder.params
            model = Classifier.from_pretrained(
                folder, params=params, num_classes=model.num_classes, dropout=model.dropout, dtype=torch.float32
            )
        else:
            model.load_state_dict(load_file(find_checkpoint(Path(weights)) / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"model.weights {weights} are of another model: {str(error)[:500]}") from error
    return model.train()


def prepare_model(model: nn.Module, recipe: ModelRecipe) -> nn.Module:
    """Apply a recipe's settings for a model's computation, and return the model."""
    if recipe.grad_checkpointing:
        checkpointing: Any = model.set_grad_checkpointing
        checkpointing()
    if recipe.channels_last:
        for parameter in model.parameters():
            parameter.data = _channels_last(parameter.data)
        # Inputs must have the weights' layout, or every convolution copies them.
        model.register_forward_pre_hook(lambda module, inputs: tuple(_channels_last(x) for x in inputs))
    return model


def _channels_last(x: Tensor) -> Tensor:
    """Return `[batch, channels, ...]` with the channels innermost in memory; PyTorch knows how in 2-D and 3-D."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.to(memory_format=formats[x.ndim]) if x.ndim in formats else x


def load_classifier(folder: Path, families: Families = TIMM) -> nn.Module:
    """Return a saved classifier, of this project or of `families`, in evaluation mode; errors as in `load_model`."""
    return load_model(folder, kinds={Classifier.kind: Classifier.from_pretrained}, families=families)


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
