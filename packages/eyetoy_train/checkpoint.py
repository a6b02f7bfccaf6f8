"""Checkpoints: safetensors and JSON, written aside and renamed, so that there is always a complete one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0
    """Completed epochs."""
    step: int = 0
    """Optimizer steps taken."""
    best_score: float = float("-inf")
    best_epoch: int = 0
    seconds: float = 0.0
    """Time spent in training and validation."""


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder beside `folder`, then put it in its place.

    Whenever this is interrupted, `folder` or its backup (see `recover_folder`) is complete.
    """
    partial, backup = (folder.with_name(folder.name + suffix) for suffix in (".partial", ".backup"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    shutil.rmtree(backup, ignore_errors=True)
    if folder.exists():
        folder.rename(backup)
    partial.rename(folder)
    shutil.rmtree(backup, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Bring back the backup that an interrupted `replace_folder` may have left in place of `folder`."""
    backup = folder.with_name(folder.name + ".backup")
    if not folder.exists() and backup.exists():
        backup.rename(folder)


def save_training_state(
    folder: Path, optimizer: torch.optim.Optimizer, accelerator: Accelerator, progress: Progress
) -> None:
    """Write to `folder` what a resumed run needs beside the model."""
    state = optimizer.state_dict()["state"]
    tensors = {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    save_file(tensors, folder / "optimizer.safetensors")
    scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
    trainer = {"progress": dataclasses.asdict(progress), "grad_scaler": scaler}
    (folder / "trainer.json").write_text(json.dumps(trainer, indent=2), encoding="utf-8")


def load_training_state(folder: Path, optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> Progress:
    """Restore what `save_training_state` wrote, and return the progress."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    trainer = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    if accelerator.scaler and trainer["grad_scaler"]:
        accelerator.scaler.load_state_dict(trainer["grad_scaler"])
    return Progress(**trainer["progress"])
