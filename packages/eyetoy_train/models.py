"""Any classifier by name: this project's, or one of timm's, built, saved and loaded alike."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eyetoy import Classifier, create_model
from eyetoy_train.recipe import ModelRecipe

TIMM = "timm/"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@runtime_checkable
class SavedModel(Protocol):
    """A module that writes all that `load_classifier` needs."""

    def save_pretrained(self, folder: Path) -> Any:
        """Write weights (safetensors) and a JSON config to a folder."""


def build_classifier(
    recipe: ModelRecipe, *, num_classes: int, in_channels: int | None = None, grid: Sequence[int] | None = None
) -> nn.Module:
    """Return the classifier that a recipe names, with new weights.

    Args:
        recipe: the model's part of a recipe.
        num_classes: how many logits.
        in_channels: channels of the input; the usual number of the modality by default.
        grid: spatial size of the input, for models of timm that are built for one.

    Raises:
        ValueError: there is no such model, or it does not take one of the recipe's options.
    """
    model: nn.Module
    if recipe.name.startswith(TIMM):
        if recipe.stem_strides is not None:
            raise ValueError(f"model.stem_strides is for this project's models; {recipe.name} has a stem of its own")
        arguments = {
            "num_classes": num_classes,
            "in_chans": 3 if in_channels is None else in_channels,
            "drop_path_rate": recipe.drop_path,
            "drop_rate": recipe.dropout,
            **recipe.options,
        }
        model = TimmClassifier(recipe.name.removeprefix(TIMM), arguments, grid)
    else:
        strides = recipe.stem_strides
        try:
            model = create_model(
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
    if recipe.weights is not None:
        model = _with_weights(model, recipe.weights)
    return prepare_classifier(model, recipe)


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


def prepare_classifier(model: nn.Module, recipe: ModelRecipe) -> nn.Module:
    """Set what a recipe asks of a model's computation, whatever its weights, and return the model."""
    if recipe.grad_checkpointing:
        checkpointing: Any = getattr(model, "set_grad_checkpointing", None)
        if checkpointing is None:
            raise ValueError(f"model.grad_checkpointing is on, and {recipe.name} has no set_grad_checkpointing")
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


def load_classifier(folder: Path) -> nn.Module:
    """Return the classifier that `save_pretrained` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: the folder holds no model.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no {CONFIG}")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if TimmClassifier.KEY not in config:
        return Classifier.from_pretrained(folder)
    model = TimmClassifier(config[TimmClassifier.KEY], config["arguments"], config["grid"])
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


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


class TimmClassifier(nn.Module):
    """A model of timm, with random weights, that saves as this project's models do.

    Args:
        name: timm's name, without a pretrained tag.
        arguments: what `timm.create_model` takes beside it.
        grid: height and width of the input, for models that are built for one size.

    Raises:
        ValueError: timm is not installed, has no such model, or the model takes no such argument.
    """

    KEY = "timm"

    def __init__(self, name: str, arguments: dict[str, Any], grid: Sequence[int] | None = None) -> None:
        super().__init__()
        self.config = {self.KEY: name, "arguments": arguments, "grid": None if grid is None else list(grid)}
        timm = _timm()
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.split('_')[0]}*")[:8]
            raise ValueError(f"timm has no model named {name!r}; near it are {', '.join(near) or 'none'}")
        fixed = timm.models.get_pretrained_cfg_value(name, "fixed_input_size")
        size = {"img_size": tuple(grid)} if fixed and grid is not None else {}
        try:
            self.model: nn.Module = timm.create_model(name, pretrained=False, **(size | arguments))
        except TypeError as error:
            raise ValueError(f"model.options do not fit timm's {name}: {error}") from error

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        logits: Tensor = self.model(x)
        return logits

    @property
    def _no_split_modules(self) -> list[str]:
        """Tell Accelerate's FSDP what to keep in one piece: the classes of which a list of blocks is made."""
        lists = (module for module in self.model.modules() if isinstance(module, nn.ModuleList | nn.Sequential))
        return sorted({type(block).__name__ for blocks in lists for block in blocks if "Block" in type(block).__name__})

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the inside of blocks again in the backward pass."""
        checkpointing: Any = self.model.set_grad_checkpointing
        checkpointing(enable)

    def save_pretrained(self, folder: Path) -> None:
        """Write weights and config."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2), encoding="utf-8")


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ValueError("models named timm/... need timm: pip install timm") from error


def _stride(stride: int | list[int]) -> int | tuple[int, ...]:
    return stride if isinstance(stride, int) else tuple(stride)
