"""Before the first step: the run's folder, the processes, the data on disk, trackers, and a note of what it runs on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import (
    GradientAccumulationPlugin,
    ProjectConfiguration,
    broadcast_object_list,
    parse_flag_from_env,
)
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from eyetoy_train.checkpoint.retention import CheckpointStore
from eyetoy_train.checkpoint.run_folder import RunFolder, choose_run_folder
from eyetoy_train.checkpoint.train_state import TrainState
from eyetoy_train.data.loading import Loading
from eyetoy_train.recipe import Recipe
from eyetoy_train.task import Task
from eyetoy_train.utils.console import log
from eyetoy_train.utils.processes import on_main_process
from eyetoy_train.utils.threads import free_threads

PROJECT = "eyetoy"
"""Name of the project in trackers such as Weights & Biases."""


def open_run(recipe: Recipe) -> RunFolder:
    """Let the main process choose the folder of the run and tell the others.

    Raises:
        FileExistsError: the recipe's `output_dir` is taken.
        ValueError: `accelerate launch` started processes for GPUs that the machine does not have.
    """
    chosen: list[RunFolder | OSError] = [RunFolder(Path())]
    # The Accelerator is built later, because its trackers need the folder. It honours this flag of `accelerate launch`;
    # a bare PartialState would not, and would see one process.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes < launched:  # each of them would train for itself, in the same folder
        raise ValueError(
            f"accelerate launch started {launched} processes, one for each GPU, and this machine has no GPU that torch "
            "can use; set ACCELERATE_USE_CPU=1 to train on CPUs, or train without a launcher"
        )
    if state.is_main_process:
        try:
            chosen = [choose_run_folder(recipe)]
        except OSError as error:  # the others must hear of it, or they would wait for ever
            chosen = [error]
    broadcast_object_list(chosen)
    if isinstance(chosen[0], OSError):
        raise chosen[0]
    return chosen[0]


def build_accelerator(recipe: Recipe, run: RunFolder) -> Accelerator:
    """Return what places and wraps models, and talks to other processes.

    Raises:
        ValueError: models would be sharded in a way that this engine cannot checkpoint or train; or `accelerate launch`
            or its environment asks for something else than the recipe, or for a device that torch cannot use.
    """
    check_launch(recipe)
    accelerator = Accelerator(
        mixed_precision=recipe.mixed_precision,
        # Not gradient_accumulation_steps=, which gives way to a variable of the environment: the loop would count
        # other micro batches than the recipe.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=recipe.gradient_accumulation_steps),
        log_with=list(recipe.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(run.path), logging_dir=str(run.tensorboard)),
    )
    try:
        torch.empty(1, device=accelerator.device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without the device
        why = str(error).partition("\n")[0]
        raise ValueError(f"the device {accelerator.device} was asked for, and torch cannot use it: {why}") from error
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP and recipe.optimizer == "muon":
        raise ValueError("optimizer: muon needs full matrices, which FSDP shards over processes; use adamw")
    if kind == DistributedType.DEEPSPEED:
        raise ValueError("DeepSpeed's checkpoints are pickles, which are neither written nor read here; use FSDP2")
    if kind == DistributedType.MEGATRON_LM or (kind == DistributedType.FSDP and not accelerator.is_fsdp2):
        raise ValueError(f"models are sharded by FSDP2 only, and this is {kind.value}; set fsdp_version: 2")
    return accelerator


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Place a model and its optimizer on the process's device, and wrap them for several processes."""
    wrapped, prepared = accelerator.prepare(model, optimizer)
    if isinstance(wrapped, DistributedDataParallel):
        # Each process collects running statistics of its own; `Checkpointer.average_buffers` takes their mean. Set now,
        # and not by an argument, which would also leave out the buffers as processes take over the first one's model.
        wrapped.broadcast_buffers = False
    return wrapped, prepared


def check_launch(recipe: Recipe) -> None:
    """Refuse options of `accelerate launch` that the recipe, which decides, would overrule without a word.

    Raises:
        ValueError: the launcher, or its configuration file, asks for another precision or accumulation.
    """
    # The launcher always sets a precision, "no" where nothing is asked for; so "no" and 1 do not contradict a recipe.
    for option, variable, nothing in (
        ("mixed_precision", "ACCELERATE_MIXED_PRECISION", "no"),
        ("gradient_accumulation_steps", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"),
    ):
        asked, ours = os.environ.get(variable, "").strip().lower(), str(getattr(recipe, option))
        if asked not in ("", nothing, ours):
            raise ValueError(
                f"accelerate launch, or {variable}, asks for {option} {asked}, and the recipe says {ours}; the recipe "
                f"decides: give --{option} {asked} to the training, or take it from the launcher"
            )


def check_micro_batch(task: Task, recipe: Recipe, num_processes: int) -> None:
    """Refuse a batch that processes and micro batches cannot share, or whose samples cannot be mixed.

    Raises:
        ValueError: see above.
    """
    size = recipe.micro_batch_size(num_processes)
    if getattr(task, "mixes", False) and size <= recipe.augmentation_repeats:
        raise ValueError(
            f"mixup and cutmix mix the samples of a micro batch, and one of {size} has a single sample "
            f"(batch_size={recipe.batch_size}, gradient_accumulation_steps={recipe.gradient_accumulation_steps}, "
            f"augmentation_repeats={recipe.augmentation_repeats}, {num_processes} process(es)); raise batch_size, "
            "lower the others, or turn mixing off"
        )


def use_all_cores(accelerator: Accelerator) -> bool:
    """Compute with all cores that this process may use, on a CPU; return whether the number of threads was free."""
    threads = free_threads()
    if threads is None or accelerator.device.type != "cpu":
        return False
    torch.set_num_threads(threads)
    return True


def keep_threads(state: TrainState, accelerator: Accelerator, *, is_free: bool) -> None:
    """Go on with as many threads as the run had, since their number changes the last bits of sums.

    Args:
        state: of the run; it is told the numbers of processes and threads.
        accelerator: the processes and their device.
        is_free: whether the number may be changed here. Where it may not, and it is another one, the run says so.
    """
    before, now = (state.processes, state.threads), (accelerator.num_processes, torch.get_num_threads())
    state.processes = accelerator.num_processes
    state.threads = torch.get_num_threads() if accelerator.device.type == "cpu" else 0
    if not state.threads or before[0] != now[0] or before[1] in (0, now[1]):
        return  # with other processes, the sums are others anyway
    if is_free:
        state.threads = before[1]
        torch.set_num_threads(before[1])
    elif accelerator.is_main_process:
        log(
            f"warning: the run had {before[1]} thread(s) until now, and has {now[1]}: the last bits of its sums may be "
            "others than those of a run without a break"
        )


def prepare_data(task: Task, accelerator: Accelerator) -> None:
    """Let the main process prepare the data, then one process of each other machine, then all others.

    So nothing is written twice where machines share their disks, and nothing is missing where they do not.
    """
    main, local_main = accelerator.is_main_process, accelerator.is_local_main_process
    for is_our_turn in (main, local_main and not main, not local_main):
        if is_our_turn:
            task.prepare()
        accelerator.wait_for_everyone()


def begin_run(run: RunFolder, recipe: Recipe, accelerator: Accelerator) -> Path | None:
    """Create the folder of the run; return the checkpoint to resume from, or None.

    Raises:
        ValueError: a process does not see the folder.
        CheckpointError: the latest checkpoint is damaged.
    """

    def begin() -> Path | None:
        run.start(recipe)
        return CheckpointStore(run.checkpoints, recipe.checkpoints).latest()

    latest = on_main_process(accelerator, begin)
    # A machine that sees another disk would find no checkpoint to resume from, so look before anything is trained.
    sees = torch.tensor(int((run.path / "recipe.yaml").is_file()), device=accelerator.device)
    if int(accelerator.reduce(sees, reduction="sum")) < accelerator.num_processes:
        raise ValueError(f"the run folder {run.path} must lie on a disk that all machines share; choose an output_dir")
    return latest


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot run here, which Accelerate would silently leave out.

    Raises:
        ValueError: a name is unknown, or its package is not installed.
    """
    available = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(f"there is no tracker {name!r}; there are {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        if name not in available:
            raise ValueError(f"the tracker {name} is not installed; pip install {name}, or take it out of trackers")


def start_trackers(accelerator: Accelerator, names: Sequence[str], run: RunFolder, recipe: str, step: int) -> None:
    """Start the trackers of a run.

    A run that resumes after optimizer step `step` adds to its curves in TensorBoard and Weights & Biases; other
    trackers begin new ones.
    """
    has_events = run.tensorboard.exists()
    options: dict[str, dict[str, Any]] = {
        # Points after the checkpoint are going to be drawn again.
        "tensorboard": {"purge_step": step + 1 if has_events else None},
        "wandb": {"name": run.path.name, "dir": str(run.path), "id": run.identity, "resume": "allow"},
    }
    accelerator.init_trackers(
        PROJECT, config={"recipe": recipe}, init_kwargs={name: options[name] for name in names if name in options}
    )


def loading_of(recipe: Recipe, accelerator: Accelerator) -> Loading:
    """Return how a recipe loads its training set, and this process's part in it."""
    return Loading(
        batch_size=recipe.batch_size,
        num_micro_batches=recipe.gradient_accumulation_steps,
        repeats=recipe.augmentation_repeats,
        seed=recipe.seed,
        num_workers=recipe.num_workers,
        process=accelerator.process_index,
        num_processes=accelerator.num_processes,
        pin_memory=accelerator.device.type == "cuda",
    )


def describe_environment(accelerator: Accelerator) -> dict[str, str | int]:
    """Return versions and hardware, for results.json."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "eyetoy": metadata.version("eyetoy"),
        "torch": torch.__version__,
        "accelerate": metadata.version("accelerate"),
        "python": platform.python_version(),
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
    }


def describe_start(recipe: Recipe, run: RunFolder, accelerator: Accelerator, num_samples: int | None, size: int) -> str:
    """Return the first line of a run; `size` is the number of parameters."""
    samples = "a stream" if num_samples is None else f"{num_samples} training samples"
    return (
        f"{recipe.model.name}, {size / 1e6:.2f} M parameters, {samples}, "
        f"{accelerator.num_processes} process(es) on {accelerator.device}, run folder {run.path}"
    )


def lacks_sharding(accelerator: Accelerator) -> bool:
    """Whether FSDP was asked for and is not used: Accelerate shards on accelerators only."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return asked and accelerator.distributed_type != DistributedType.FSDP


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Use deterministic algorithms only in a `with` block, if `enabled`; an operation that has none then raises."""
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
