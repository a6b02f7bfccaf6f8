"""Before the first step: the run's folder, its data, and everything that the loop works with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from torch.utils.data import Dataset

from eyetoy_train.checkpoint.checkpointer import Saver, resume_weights
from eyetoy_train.checkpoint.retention import Kept
from eyetoy_train.checkpoint.run_folder import RunFolder, choose_run_folder
from eyetoy_train.checkpoint.train_state import Progress
from eyetoy_train.data.loading import Loading, TrainingData, training_data
from eyetoy_train.engine.stepper import Stepper
from eyetoy_train.optim.build import build_optimizer
from eyetoy_train.optim.ema import Ema
from eyetoy_train.optim.schedule import DropPathWarmup, run_lengths
from eyetoy_train.recipe import Recipe
from eyetoy_train.task import Task
from eyetoy_train.types import Batch, SampleStream
from eyetoy_train.utils.console import log
from eyetoy_train.utils.processes import on_main_process


@dataclass(kw_only=True)
class Parts:
    """What the loop works with."""

    task: Task
    recipe: Recipe
    run: RunFolder
    accelerator: Accelerator
    data: TrainingData
    val_set: Dataset[Batch] | SampleStream
    stepper: Stepper
    saver: Saver
    progress: Progress


def open_run(recipe: Recipe) -> RunFolder:
    """Let the main process choose the folder, so that all agree on it.

    Raises:
        FileExistsError: the recipe's `output_dir` is taken.
    """
    chosen: list[RunFolder | OSError] = [RunFolder(Path())]
    # Accelerator honours this flag of `accelerate launch`; a bare PartialState would not, and would see one process.
    if PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).is_main_process:
        try:
            chosen = [choose_run_folder(recipe)]
        except OSError as error:
            chosen = [error]
    broadcast_object_list(chosen)
    if isinstance(chosen[0], OSError):
        raise chosen[0]
    return chosen[0]


def prepare_data(task: Task, accelerator: Accelerator) -> None:
    """Prepare the data on the main process, then on one of each other machine, then let everybody go on.

    So nothing is written twice where machines share their disks, and nothing is missing where they do not.
    """
    main, local_main = accelerator.is_main_process, accelerator.is_local_main_process
    for turn in (main, local_main and not main, not local_main):
        if turn:
            task.prepare()
        accelerator.wait_for_everyone()


def start_parts(task: Task, recipe: Recipe, run: RunFolder, accelerator: Accelerator) -> Parts:
    """Build data, model and optimizer, and go on from the latest checkpoint if there is one.

    Raises:
        ValueError: the recipe does not fit the data or the number of processes.
        CheckpointError: the latest checkpoint is damaged, or of another model.
    """
    recipe.samples_per_pass(accelerator.num_processes)  # refuses what cannot be shared
    _check_distribution(accelerator, recipe)
    train_set, val_set = task.dataset("train"), task.dataset("val")
    if train_set is None or val_set is None:
        raise ValueError("the data need a training and a validation split")
    data = training_data(train_set, _loading(recipe, accelerator))
    lengths = run_lengths(recipe, data.steps_per_epoch)
    model = task.build_model()
    drop_path = DropPathWarmup(model, recipe.drop_path_warmup_epochs * lengths.steps_per_epoch)
    optimizer = build_optimizer(model, recipe)
    kept = Kept(run.checkpoints, recipe.checkpoints)
    latest = _begin(run, recipe, accelerator)
    if latest:
        resume_weights(model, latest)
    if recipe.model.compile:
        model.compile()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    ema = Ema(accelerator.unwrap_model(model), recipe.ema) if recipe.ema.decay is not None else None
    saver = Saver(task=task, accelerator=accelerator, kept=kept, model=model, optimizer=optimizer, ema=ema)
    progress = saver.load(latest) if latest else Progress()
    stepper = Stepper(
        task=task,
        recipe=recipe,
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        ema=ema,
        drop_path=drop_path,
        lengths=lengths,
    )
    if accelerator.is_main_process:
        run.forget_after(progress.epoch, progress.step)  # of a run that was killed before its first checkpoint too
        log(_introduction(recipe, run, accelerator, data, parameters, progress))
    return Parts(
        task=task,
        recipe=recipe,
        run=run,
        accelerator=accelerator,
        data=data,
        val_set=val_set,
        stepper=stepper,
        saver=saver,
        progress=progress,
    )


def _loading(recipe: Recipe, accelerator: Accelerator) -> Loading:
    return Loading(
        batch_size=recipe.batch_size,
        passes_per_step=recipe.gradient_accumulation_steps,
        repeats=recipe.augmentation_repeats,
        seed=recipe.seed,
        num_workers=recipe.num_workers,
        process=accelerator.process_index,
        num_processes=accelerator.num_processes,
        pin_memory=accelerator.device.type == "cuda",
    )


def _check_distribution(accelerator: Accelerator, recipe: Recipe) -> None:
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP and recipe.optimizer == "muon":
        raise ValueError("optimizer: muon needs whole matrices, which FSDP spreads over processes; use adamw")
    if kind == DistributedType.DEEPSPEED:
        raise ValueError("DeepSpeed's checkpoints are pickles, which are neither written nor read here; use FSDP2")
    if kind == DistributedType.MEGATRON_LM or (kind == DistributedType.FSDP and not accelerator.is_fsdp2):
        raise ValueError(f"models are spread by FSDP2 alone, and this is {kind.value}; set fsdp_version: 2")


def _begin(run: RunFolder, recipe: Recipe, accelerator: Accelerator) -> Path | None:
    """Let the main process prepare the folder and choose the checkpoint to go on from, which all others must see."""

    def begin() -> Path | None:
        run.start(recipe)
        return Kept(run.checkpoints, recipe.checkpoints).latest()

    latest = on_main_process(accelerator, begin)
    sees = torch.tensor(int((run.path / "recipe.yaml").is_file()), device=accelerator.device)
    if int(accelerator.reduce(sees, reduction="sum")) < accelerator.num_processes:
        raise ValueError(f"the run folder {run.path} must lie on a disk that all machines share; choose an output_dir")
    return latest


def _introduction(
    recipe: Recipe, run: RunFolder, accelerator: Accelerator, data: TrainingData, parameters: int, progress: Progress
) -> str:
    samples = "a stream" if data.num_samples is None else f"{data.num_samples} training samples"
    line = (
        f"{recipe.model.name}, {parameters / 1e6:.2f} M parameters, {samples}, "
        f"{accelerator.num_processes} process(es) on {accelerator.device}, run folder {run.path}"
    )
    if progress.step:
        line += f"; going on after step {progress.step}, epoch {progress.epoch + 1}"
    sharding_asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if sharding_asked and accelerator.distributed_type != DistributedType.FSDP:
        line += "\nFSDP was asked for, but Accelerate shards on GPUs alone: every process here holds the whole model"
    return line
