"""A checkpoint that is found and opened: its model, its task and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from eyetoy.kinds import WEIGHTS
from eyetoy_train.task import LabelledTask
from eyetoy_train.utils.untrusted import read_json

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
