"""The image app: classification, detection and segmentation behind one set of commands.

A recipe names its task, as in `task: detection`; a checkpoint has it in its saved recipe.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from eyetoy_train.commands.cli import option_place, shipped_config
from eyetoy_train.concerns import Command
from eyetoy_train.ending import exit_on_error
from eyetoy_train.models.opened import Checkpoint, find_checkpoint
from eyetoy_train.recipe import Recipe
from eyetoy_train.utils.untrusted import read_yaml

if TYPE_CHECKING:
    import torch

APPS: Mapping[str, str] = {
    "classification": "eyetoy_image.classification.app",
    "detection": "eyetoy_image.detection.app",
    "segmentation": "eyetoy_image.segmentation.app",
}
"""The modules whose `APP` is for a task. One is imported when a recipe asks for it: others may need more packages."""
PREDICTORS: Mapping[str, tuple[str, str]] = {
    "detection": ("eyetoy_image.detection.predictor", "DetectionPredictor"),
    "segmentation": ("eyetoy_image.segmentation.predictor", "SegmentationPredictor"),
}
"""The modules and classes of those whose app has no `load` of its own."""


UNNAMED = "classification"
"""The task of a recipe that names none, and of a command line without a recipe."""


class TaskApp(Protocol):
    """The commands of one task; see `eyetoy_train.App`, and `predict` of the tasks' own apps."""

    @property
    def default_config(self) -> Path | None:
        """The recipe file that `train` uses if none is named."""

    def parse_args(self, argv: Sequence[str] | None = None) -> tuple[Any, Recipe]:
        """Return the task and the recipe that a command line asks for."""

    def options(self, argv: Sequence[str] | None = None) -> list[str]:
        """Return the options of `train`."""

    def train(self, argv: Sequence[str] | None = None) -> None:
        """Train by the recipe of a command line."""

    def open(
        self, checkpoint: Path, overrides: Sequence[str] = (), *, command: Command | None = None
    ) -> Checkpoint[Any]:
        """Open a run folder or a checkpoint."""

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint."""

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Predict for image files."""

    def export(self, argv: Sequence[str] | None = None) -> None:
        """Export a checkpoint."""

    def embed(self, argv: Sequence[str] | None = None) -> None:
        """Write vectors of image files."""


def app_of(task: str) -> TaskApp:
    """Return the app of one of the tasks in `APPS`."""
    app: TaskApp = importlib.import_module(APPS[task]).APP
    return app


@exit_on_error()
def _asked_task(arguments: Sequence[str]) -> str | None:
    """Return the task that `--task` names, or None; refuse one that is not in `APPS`."""
    place = option_place(arguments, "--task")
    if place is not None and place[1] not in APPS:
        raise ValueError(f"--task must be one of {', '.join(APPS)}; got {place[1]}")
    return None if place is None else place[1]


def _task_of(path: Path) -> str:
    """Return the task of a recipe, or the default one for an unreadable file; refuse one that is not in `APPS`."""
    try:
        recipe = read_yaml(path)
    except (OSError, yaml.YAMLError):
        recipe = {}
    task = recipe.get("task", UNNAMED) if isinstance(recipe, dict) else UNNAMED
    if not isinstance(task, str) or task not in APPS:
        raise ValueError(f"{path}: task must be one of {', '.join(APPS)}; got {task}")
    return task


class ImageApp:
    """The commands of the app of a recipe's or checkpoint's task."""

    def of_recipe(self, argv: Sequence[str] | None = None) -> TaskApp:
        """Return the app of the recipe that `--config` names on the command line, or of `--task`, or the default one.

        On a task that is not in `APPS`, or another one than the recipe's, the program exits with a message and code 2.
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        default_config, place = app_of(UNNAMED).default_config, option_place(arguments, "--config")
        if place is None:
            return app_of(_asked_task(arguments) or UNNAMED)
        try:
            file = shipped_config(place[1], default_config)
        except FileNotFoundError:
            return app_of(UNNAMED)  # whose parser has the right message
        return self._of_file(file, arguments)

    def of_checkpoint(self, argv: Sequence[str] | None = None) -> TaskApp:
        """Return the app of the first checkpoint on the command line; without any, that of `--task` or the default one.

        On a task that is not in `APPS`, or another one than the checkpoint's, the program exits with a message and
        code 2.
        """
        # The parser is the app's, so its options are not known yet: any argument may be the checkpoint. Without one,
        # the app's parser has the right message.
        arguments = list(sys.argv[1:] if argv is None else argv)
        for argument in arguments:
            try:
                return self._of_file(find_checkpoint(Path(argument)) / "recipe.yaml", arguments)
            except FileNotFoundError:
                continue
        return app_of(_asked_task(arguments) or UNNAMED)

    @exit_on_error()
    def _of_file(self, path: Path, arguments: Sequence[str]) -> TaskApp:
        """Return the app of a recipe, or the default one for an unreadable file, whose parser has the right message."""
        task = _task_of(path)
        asked = _asked_task(arguments)
        if asked not in (None, task):
            raise ValueError(f"--task {asked} does not fit {path}, which is of {task}; leave it out, or name another")
        return app_of(task)

    def parse_args(self, argv: Sequence[str] | None = None) -> tuple[Any, Recipe]:
        """Return the task and the recipe of a command line; see `App.parse_args`."""
        return self.of_recipe(argv).parse_args(argv)

    def options(self, argv: Sequence[str] | None = None) -> list[str]:
        """Return the options of `train` for the task of a command line; see `App.options`."""
        return self.of_recipe(argv).options(argv)

    def train(self, argv: Sequence[str] | None = None) -> None:
        """Train by the recipe of a command line; see `App.train`."""
        self.of_recipe(argv).train(argv)

    def open(
        self, checkpoint: Path, overrides: Sequence[str] = (), *, command: Command | None = None
    ) -> Checkpoint[Any]:
        """Open a run folder or a checkpoint; see `App.open`."""
        return self.of_checkpoint([str(checkpoint), *overrides]).open(checkpoint, overrides, command=command)

    def load(self, checkpoint: Path, *, device: torch.device | str | None = None) -> Any:
        """Return a checkpoint as an object whose `predict` takes files and arrays, by its task.

        A `ClassifierPredictor`, a `DetectionPredictor` or a `SegmentationPredictor`; errors as in `App.open`.
        """
        folder = find_checkpoint(checkpoint)
        task = _task_of(folder / "recipe.yaml")
        if task in PREDICTORS:
            module, name = PREDICTORS[task]
            return getattr(importlib.import_module(module), name).from_pretrained(folder, device=device)
        app: Any = app_of(task)
        return app.load(folder, device=device)

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint; see `App.validate`."""
        self.of_checkpoint(argv).validate(argv)

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Classify, detect or segment image files, by the checkpoint's task."""
        self.of_checkpoint(argv).predict(argv)

    def export(self, argv: Sequence[str] | None = None) -> None:
        """Export a checkpoint; see `App.export`."""
        self.of_checkpoint(argv).export(argv)

    def embed(self, argv: Sequence[str] | None = None) -> None:
        """Write vectors of image files; see `embed_folder`."""
        self.of_checkpoint(argv).embed(argv)


APP = ImageApp()
