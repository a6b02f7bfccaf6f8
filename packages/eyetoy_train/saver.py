"""What a checkpoint holds, and how a run writes it and goes on from it, on any number of processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import save_file
from torch import nn

from eyetoy_train.checkpoint import CheckpointError
from eyetoy_train.ema import Ema
from eyetoy_train.kept import Kept
from eyetoy_train.models import WEIGHTS
from eyetoy_train.record import EpochRecord
from eyetoy_train.state import (
    is_spread,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    read_tensors,
    whole,
)
from eyetoy_train.task import Task

OPTIMIZER, EMA, TRAINER = "optimizer.safetensors", "ema.safetensors", "trainer.json"


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0
    """Completed epochs."""
    step: int = 0
    """Optimizer steps taken."""
    ranking: dict[int, float] = field(default_factory=dict)
    """Validation scores of the best epochs, the best first."""
    seconds: float = 0.0
    """Time spent in training and validation."""
    record: EpochRecord = field(default_factory=EpochRecord)
    """Losses of the epoch that is under way."""

    @property
    def best_epoch(self) -> int:
        """The epoch with the best score; 0 if none was scored."""
        return next(iter(self.ranking), 0)

    def rank(self, score: float, keep: int) -> bool:
        """Take the score of the latest epoch into the ranking; return whether it is one of the best `keep`."""
        scores = self.ranking | {self.epoch: score}
        # Of equals the later one is better, which has seen more.
        best = sorted(scores, key=lambda epoch: (scores[epoch], epoch), reverse=True)[:keep]
        self.ranking = {epoch: scores[epoch] for epoch in best}
        return self.epoch in self.ranking

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON knows it."""
        ranking = [[epoch, score] for epoch, score in self.ranking.items()]
        return vars(self) | {"ranking": ranking, "record": self.record.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Progress:
        """Undo `to_json`."""
        ranking = {int(epoch): float(score) for epoch, score in values["ranking"]}
        return cls(**values | {"ranking": ranking, "record": EpochRecord.from_json(values["record"])})


@dataclass(kw_only=True)
class Saver:
    """Writes and reads checkpoints. All processes must call its methods together."""

    task: Task
    accelerator: Accelerator
    kept: Kept
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None

    @property
    def plain_model(self) -> nn.Module:
        """The model without what wraps it for distributed training."""
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    def averaged(self) -> AbstractContextManager[None]:
        """Give the model the average of its weights for a while, if one is kept."""
        return self.ema.in_place() if self.ema else nullcontext()

    def save_step(self, progress: Progress) -> None:
        """Write a checkpoint to go on from.

        Raises:
            CheckpointError: it could not be written.
        """
        model = self._portable()
        tensors = {}
        if model is not None or is_spread(self.plain_model):  # parts are gathered from all, copies from one
            tensors[OPTIMIZER] = optimizer_tensors(self.plain_model, self.optimizer)
            if self.ema:
                tensors[EMA] = self.ema.tensors()
        scaler = self.accelerator.scaler
        state = {"progress": progress.to_json(), "grad_scaler": scaler.state_dict() if scaler else None}

        def write(folder: Path) -> None:
            assert model is not None
            self.task.save(model, folder)
            for name, values in tensors.items():
                save_file(values, folder / name)
            (folder / TRAINER).write_text(json.dumps(state, indent=1), encoding="utf-8")

        on_main_process(self.accelerator, lambda: self.kept.write_step(progress.step, write))

    def save_best(self, progress: Progress) -> None:
        """Write the model, with its average weights if they are kept, as one of the best.

        Raises:
            CheckpointError: it could not be written.
        """
        with self.averaged():
            model = self._portable()

            def write(folder: Path) -> None:
                assert model is not None
                self.task.save(model, folder)

            on_main_process(self.accelerator, lambda: self.kept.write_best(progress.ranking, write))

    def load(self, folder: Path) -> Progress:
        """Restore everything but the weights, which `load_weights` gives the model before it is spread.

        Raises:
            CheckpointError: a file is damaged, or of another model.
        """
        load_optimizer(self.plain_model, self.optimizer, folder / OPTIMIZER)
        if self.ema:
            self.ema.load(read_tensors(folder / EMA))
        try:
            state = json.loads((folder / TRAINER).read_text(encoding="utf-8"))
            progress = Progress.from_json(state["progress"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"cannot read {folder / TRAINER}: {error}") from error
        if self.accelerator.scaler and state["grad_scaler"]:
            self.accelerator.scaler.load_state_dict(state["grad_scaler"])
        return progress

    def _portable(self) -> nn.Module | None:
        """Return, on the main process, a model that is whole."""
        model = self.plain_model
        if not is_spread(model):
            return model if self.accelerator.is_main_process else None
        weights = {name: whole(value) for name, value in model.state_dict().items()}
        if not self.accelerator.is_main_process:
            return None
        copy = self.task.build_model()
        copy.load_state_dict(weights)
        return copy


def resume_weights(model: nn.Module, folder: Path) -> None:
    """Give a new model the weights of a checkpoint.

    Raises:
        CheckpointError: they are damaged, or of another model.
    """
    load_weights(model, folder / WEIGHTS)


def on_main_process(accelerator: Accelerator, work: Callable[[], None]) -> None:
    """Let the main process work while the others wait; what goes wrong goes wrong everywhere.

    Raises:
        CheckpointError: `work` raised it.
    """
    found: list[CheckpointError | None] = [None]
    if accelerator.is_main_process:
        try:
            work()
        except CheckpointError as error:
            found = [error]
    broadcast_object_list(found)
    if found[0]:
        raise found[0]
