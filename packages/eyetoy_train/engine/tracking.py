"""Where curves go beside the run's folder: TensorBoard, Weights & Biases and others, through Accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from eyetoy_train.checkpoint.run_folder import RunFolder

PROJECT = "eyetoy"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot run here, which Accelerate would leave out without a word.

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

    One that goes on after optimizer step `step` adds to the curves of TensorBoard and Weights & Biases; other trackers
    begin new ones.
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
