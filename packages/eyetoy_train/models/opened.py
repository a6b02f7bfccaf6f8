"""A checkpoint that is found and opened: its model, its task and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import yaml

from eyetoy.kinds import WEIGHTS
from eyetoy_train.models.included import included_model, names_like
from eyetoy_train.task import LabelledTask
from eyetoy_train.types import MODALITIES, Modality
from eyetoy_train.utils.untrusted import read_json, read_yaml

if TYPE_CHECKING:
    import torch
    from torch import nn

LABELS = "labels.json"

T = TypeVar("T", bound=LabelledTask)


@dataclass(frozen=True)
class Checkpoint(Generic[T]):
    """A saved model with the task and the labels that it was trained with. `App.open` gives it."""

    folder: Path
    task: T
    labels: list[str]
    """Names of the classes, in the order of the model's outputs."""

    def load_model(self, device: torch.device | None = None) -> nn.Module:
        """Return the model in evaluation mode, on this machine's accelerator if no device is given."""
        return self.task.load(self.folder).to(device or best_device()).eval()


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that `path` means: itself, the best one of a run, or an included model's.

    A bare name that is no file or folder here means an included model, such as `digits`; see `included_models`.

    Raises:
        FileNotFoundError: there is none.
    """
    for folder in (path, path / "checkpoints" / "best"):
        if (folder / WEIGHTS).is_file():
            return folder
    is_bare, included = path.name == str(path), included_model(path.name)
    if path.exists():
        # Not the included model, without a word: whoever has a folder of this name may mean that.
        shadows = f"; the included model {path.name} is found from a folder without it" * (is_bare and bool(included))
        raise FileNotFoundError(
            f"{path} holds no checkpoint; give a run folder such as runs/digits, or a folder with {WEIGHTS}{shadows}"
        )
    if is_bare and included:
        return included
    hint = f"; {names_like(path.name)}" if is_bare else ""
    raise FileNotFoundError(
        f"{path} holds no checkpoint: there is no such folder; give a run folder such as runs/digits, or a folder with "
        f"{WEIGHTS}{hint}"
    )


def modality_of(checkpoint: Path) -> Modality:
    """Return whether a checkpoint's model takes images, sounds or videos.

    Its config.json says so under `preprocessing`. An older one does not, and then the keys of its saved recipe tell.

    Args:
        checkpoint: its folder, or a run's for its best checkpoint.

    Raises:
        FileNotFoundError: there is no checkpoint, or neither file tells and there is no recipe.
        ValueError: config.json or recipe.yaml cannot be read, or config.json names no modality of this project.
    """
    folder = find_checkpoint(checkpoint)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    preprocessing = config.get("preprocessing") if isinstance(config, dict) else None
    named: Any = preprocessing.get("modality") if isinstance(preprocessing, dict) else None
    if named in MODALITIES:
        return cast("Modality", named)
    if named is not None:
        raise ValueError(
            f"{folder / 'config.json'}: preprocessing.modality must be image, audio or video; got {named!r}"
        )
    saved = folder / "recipe.yaml"
    if not saved.is_file():
        raise FileNotFoundError(f"{folder} holds a model, and no recipe.yaml that tells how it was trained")
    try:
        recipe = read_yaml(saved)
    except yaml.YAMLError as error:
        raise ValueError(f"cannot read {saved}: {error}") from error
    if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), dict):
        raise ValueError(f"{saved} has no part data, which tells what the model takes")
    return _recipe_modality(recipe["data"])


def _recipe_modality(data: dict[str, Any]) -> Modality:
    """Return the modality of a recipe's data by the keys that only one modality has."""
    keys: dict[str, Modality] = {"sample_rate": "audio", "num_frames": "video"}
    return next((modality for key, modality in keys.items() if key in data), "image")


def best_device() -> torch.device:
    """Return this machine's accelerator, or its CPU."""
    import torch

    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def read_labels(folder: Path) -> list[str]:
    """Return the names of a checkpoint's classes, in the order of its logits.

    Raises:
        OSError: there is no labels.json in the folder.
        ValueError: it is no list of names.
    """
    labels = read_json(folder / LABELS)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{folder / LABELS} must be a list of names")
    return labels
