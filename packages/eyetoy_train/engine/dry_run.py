"""Try a recipe out without a run: one batch forward and backward, a picture of it, and what a step costs."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed

from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.data.loading import training_data
from eyetoy_train.engine.setup import (
    build_accelerator,
    check_micro_batch,
    check_trackers,
    deterministic,
    loading_of,
    open_run,
    prepare,
    prepare_data,
)
from eyetoy_train.optim.build import build_optimizer
from eyetoy_train.optim.schedule import run_lengths
from eyetoy_train.recipe import Recipe
from eyetoy_train.task import Task
from eyetoy_train.types import Batch
from eyetoy_train.utils.console import duration, log, peak_memory_bytes
from eyetoy_train.utils.seeds import derive_seed, seed_generators


@runtime_checkable
class ShowsBatch(Protocol):
    """A task that can draw a training batch as the model gets it."""

    def write_batch(self, batch: Batch, path: Path) -> None:
        """Draw the samples of a batch from the loader, augmented as in training, to an image file."""


def dry_run(task: Task, recipe: Recipe) -> RunFolder:
    """Take a step of a run that is not started, and log what it costs and how many there would be.

    The folder that the run would get holds a picture of the first batch afterwards, `batch.png`, if the task
    `ShowsBatch`; nothing else is written, except for data that the task makes. Runs under `accelerate launch`, too.

    Args:
        task: the data, the model and the loss.
        recipe: everything else.

    Returns:
        the folder that the run would get.

    Raises:
        ValueError: the recipe does not fit the data, the machine or the number of processes.
        FloatingPointError: the loss is not finite.
    """
    check_trackers(recipe.trackers)
    run = open_run(recipe)
    accelerator = build_accelerator(recipe, run)
    prepare_data(task, accelerator)
    set_seed(recipe.seed)
    with deterministic(recipe.deterministic):
        check_micro_batch(task, recipe, accelerator.num_processes)
        train_set = task.dataset("train")
        if train_set is None or task.dataset("val") is None:
            raise ValueError("the data need a training and a validation split")
        data = training_data(train_set, loading_of(recipe, accelerator))
        lengths = run_lengths(recipe, data.steps_per_epoch)
        model = task.build_model()
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        prepared, optimizer = prepare(accelerator, model, build_optimizer(model, recipe))
        prepared.train()
        batches = data.micro_batches(0, skip=0, count=2)
        first = send_to_device(next(batches), accelerator.device)

        def learn(batch: Batch) -> float:
            """Return the loss of a batch, after its forward and backward pass."""
            _seed(recipe, accelerator)
            with accelerator.autocast():
                loss = task.loss(prepared, batch)
            accelerator.backward(loss)
            return loss.item()  # which waits for the device

        loss = learn(first)
        # Another pass is timed: the first one also sets up threads and kernels, and would say too much of the others.
        started = time.perf_counter()
        second = send_to_device(next(batches, first), accelerator.device)
        waited = time.perf_counter() - started
        learn(second)
        seconds = (time.perf_counter() - started) * recipe.gradient_accumulation_steps
        started = time.perf_counter()
        optimizer.step()
        seconds += time.perf_counter() - started
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of the first batch is {loss}; it should be finite")
        pictured = isinstance(task, ShowsBatch)
        if accelerator.is_main_process and isinstance(task, ShowsBatch):
            _seed(recipe, accelerator)
            run.path.mkdir(parents=True, exist_ok=True)
            task.write_batch(first, run.batch)
    if accelerator.is_main_process:
        share = waited * recipe.gradient_accumulation_steps / seconds
        memory = peak_memory_bytes(accelerator.device)
        log(
            f"dry run of {recipe.model.name}, {num_parameters / 1e6:.2f} M parameters: loss {loss:.4f}; a step of "
            f"{recipe.batch_size:,} samples takes {seconds:.3g} s, {share:.0%} of it for data"
            + ("" if memory is None else f", and {memory / 1e9:.1f} GB of memory")
            + f"; {lengths.num_epochs:,} epochs of {lengths.steps_per_epoch:,} steps are {lengths.num_steps:,} steps, "
            f"about {duration(seconds * lengths.num_steps)} without evaluations; "
            + (f"{run.batch} shows the first batch" if pictured else "no picture is drawn for this task")
            + "; no run was started"
        )
    accelerator.end_training()
    return run


def _seed(recipe: Recipe, accelerator: Accelerator) -> None:
    """Seed what the first batch of a run draws, as `Trainer.train_step` does."""
    seed_generators(derive_seed(recipe.seed, "pass", 0, accelerator.process_index), accelerator.device)
