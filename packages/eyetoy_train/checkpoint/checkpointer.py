"""Writes checkpoints and resumes from them, on any number of processes."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from eyetoy.kinds import WEIGHTS
from eyetoy_train.checkpoint.retention import CheckpointStore
from eyetoy_train.checkpoint.state_dicts import (
    full_weights,
    load_full_weights,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    read_tensors,
)
from eyetoy_train.checkpoint.train_state import TrainState
from eyetoy_train.optim.ema import Ema
from eyetoy_train.task import Task
from eyetoy_train.types import CheckpointError
from eyetoy_train.utils.processes import on_main_process
from eyetoy_train.utils.sharding import full_tensors, is_sharded
from eyetoy_train.utils.untrusted import read_json

OPTIMIZER, EMA, TRAINER = "optimizer.safetensors", "ema.safetensors", "trainer.json"


@dataclass(kw_only=True)
class Checkpointer:
    """Writes and reads the checkpoints of a run.

    A checkpoint holds full tensors whether or not the model is sharded, so a run may go on with another number of
    processes. All processes must call its methods together, because to gather shards takes all of them; the main
    process alone touches the disk.
    """

    task: Task
    accelerator: Accelerator
    store: CheckpointStore
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None

    @property
    def plain_model(self) -> nn.Module:
        """The model without its wrapper for distributed training."""
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    @property
    def is_sharded(self) -> bool:
        """Whether every process stores only a part of the model."""
        return is_sharded(self.plain_model)

    def averaged(self) -> AbstractContextManager[None]:
        """Swap the averaged weights into the model for the duration of a `with` block, if there are any."""
        return self.ema.in_place() if self.ema else nullcontext()

    @torch.no_grad()
    def average_buffers(self) -> None:
        """Replace running statistics, as of batch norms, and their averages by their mean over all processes.

        Every process collects them over its own samples. They are updated by linear rules, so the mean may be taken at
        any time and any number of times.
        """
        if self.accelerator.num_processes == 1:
            return
        for name, buffer in self.plain_model.named_buffers():
            averages = [self.ema.average[name]] if self.ema and name in self.ema.average else []
            for tensor in (buffer, *averages):
                if tensor.is_floating_point():
                    tensor.copy_(self.accelerator.reduce(tensor, reduction="mean"))

    def save_step(self, state: TrainState) -> None:
        """Write a checkpoint to resume from.

        Raises:
            CheckpointError: it could not be written.
        """
        # First everything that takes all processes. What follows runs on the main process while the others wait.
        self.average_buffers()
        model = self._full_model()
        tensors = {OPTIMIZER: optimizer_tensors(self.plain_model, self.optimizer)}
        if self.ema:
            tensors[EMA] = full_tensors(self.ema.average, keep=self.accelerator.is_main_process)
        scaler = self.accelerator.scaler
        values = {"progress": state.to_json(), "grad_scaler": scaler.state_dict() if scaler else None}

        def write(folder: Path) -> None:
            assert model is not None
            self.task.save(model, folder)
            for name, content in tensors.items():
                save_file(_contiguous(content), folder / name)
            (folder / TRAINER).write_text(json.dumps(values, indent=1), encoding="utf-8")

        on_main_process(self.accelerator, lambda: self.store.write_step(state.step, write))

    def save_best(self, state: TrainState) -> None:
        """Write the model, with its averaged weights if there are any, as one of the best.

        Raises:
            CheckpointError: it could not be written.
        """
        with self.averaged():
            model = self._full_model()

            def write(folder: Path) -> None:
                assert model is not None
                self.task.save(model, folder)

            on_main_process(self.accelerator, lambda: self.store.write_best(state.ranking, write))

    def load(self, folder: Path) -> TrainState:
        """Restore everything but the weights, which `resume_weights` has loaded before the model was sharded.

        Raises:
            CheckpointError: a file is damaged, or of another model.
        """
        load_optimizer(self.plain_model, self.optimizer, folder / OPTIMIZER)
        if self.ema:
            self.ema.load(read_tensors(folder / EMA))
        try:
            values = read_json(folder / TRAINER)
            state = TrainState.from_json(values["progress"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"cannot read {folder / TRAINER}: {error}") from error
        if self.accelerator.scaler and values["grad_scaler"]:
            self.accelerator.scaler.load_state_dict(values["grad_scaler"])
        return state

    def load_best(self) -> nn.Module:
        """Return the best model on its device. A sharded model, which may fit no device whole, is loaded in place."""
        if not self.is_sharded:
            return self.task.load(self.store.best).to(self.accelerator.device)
        load_full_weights(self.plain_model, read_tensors(self.store.best / WEIGHTS))
        return self.plain_model

    def _full_model(self) -> nn.Module | None:
        """Return the model with full weights on the main process, and None on the others."""
        if not self.is_sharded:
            return self.plain_model if self.accelerator.is_main_process else None
        weights = full_weights(self.plain_model)
        if not self.accelerator.is_main_process:
            return None
        # A task saves models, not dicts of tensors: so a second one on the CPU takes the gathered weights.
        model = self.task.build_model()
        model.load_state_dict(weights)
        return model


def resume_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of a checkpoint into a new model, before it is compiled, moved or sharded.

    Raises:
        CheckpointError: they are damaged, or of another model.
    """
    load_weights(model, folder / WEIGHTS)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}  # as safetensors asks
