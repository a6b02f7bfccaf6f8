"""What a checkpoint holds, and how a run writes it and goes on from it, on any number of processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from eyetoy.hub import WEIGHTS
from eyetoy_train.checkpoint.atomic import CheckpointError
from eyetoy_train.checkpoint.retention import Kept
from eyetoy_train.checkpoint.state_dicts import (
    is_spread,
    let_go,
    load_optimizer,
    load_spread,
    load_weights,
    optimizer_tensors,
    read_tensors,
    whole,
)
from eyetoy_train.checkpoint.train_state import Progress
from eyetoy_train.optim.ema import Ema
from eyetoy_train.task import Task
from eyetoy_train.utils.processes import on_main_process
from eyetoy_train.utils.untrusted import read_json

OPTIMIZER, EMA, TRAINER = "optimizer.safetensors", "ema.safetensors", "trainer.json"


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

    @property
    def is_spread(self) -> bool:
        """Whether processes hold parts of the model."""
        return is_spread(self.plain_model)

    def averaged(self) -> AbstractContextManager[None]:
        """Give the model the average of its weights for a while, if one is kept."""
        return self.ema.in_place() if self.ema else nullcontext()

    @torch.no_grad()
    def share_buffers(self) -> None:
        """Give all processes the mean of their running statistics, as of batch norms, and of the averages of these.

        Each process gathers them over its own samples. They follow linear rules, so that it does not matter when, or
        how often, their mean is taken.
        """
        if self.accelerator.num_processes == 1:
            return
        for name, buffer in self.plain_model.named_buffers():
            averages = [self.ema.average[name]] if self.ema and name in self.ema.average else []
            for tensor in (buffer, *averages):
                if tensor.is_floating_point():
                    tensor.copy_(self.accelerator.reduce(tensor, reduction="mean"))

    def save_step(self, progress: Progress) -> None:
        """Write a checkpoint to go on from.

        Raises:
            CheckpointError: it could not be written.
        """
        self.share_buffers()
        model = self._portable()
        tensors = {OPTIMIZER: self._whole(optimizer_tensors(self.plain_model, self.optimizer))}
        if self.ema:
            tensors[EMA] = self._whole(self.ema.average)
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
        """Restore everything but the weights, which `resume_weights` gives the model before it is spread.

        Raises:
            CheckpointError: a file is damaged, or of another model.
        """
        load_optimizer(self.plain_model, self.optimizer, folder / OPTIMIZER)
        if self.ema:
            self.ema.load(read_tensors(folder / EMA))
        try:
            state = read_json(folder / TRAINER)
            progress = Progress.from_json(state["progress"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"cannot read {folder / TRAINER}: {error}") from error
        if self.accelerator.scaler and state["grad_scaler"]:
            self.accelerator.scaler.load_state_dict(state["grad_scaler"])
        return progress

    def load_best(self) -> nn.Module:
        """Return the best model on its device: a new one, or, where no process could hold it, the one in training."""
        if not self.is_spread:
            return self.task.load(self.kept.best).to(self.accelerator.device)
        load_spread(self.plain_model, read_tensors(self.kept.best / WEIGHTS))
        return self.plain_model

    def _portable(self) -> nn.Module | None:
        """Return, on the main process, a model that is whole."""
        if not self.is_spread:
            return self.plain_model if self.accelerator.is_main_process else None
        let_go(self.plain_model)
        weights = self._whole(self.plain_model.state_dict())
        if not self.accelerator.is_main_process:
            return None
        copy = self.task.build_model()
        copy.load_state_dict(weights)
        return copy

    def _whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return whole tensors on the main process; parts are gathered from all of them, copies taken from one."""
        is_main = self.accelerator.is_main_process
        return whole(tensors, keep=is_main) if is_main or self.is_spread else {}


def resume_weights(model: nn.Module, folder: Path) -> None:
    """Give a new model the weights of a checkpoint.

    Raises:
        CheckpointError: they are damaged, or of another model.
    """
    load_weights(model, folder / WEIGHTS)
