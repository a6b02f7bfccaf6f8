"""The image app: classification, detection and segmentation behind one set of commands.

A recipe names its task, as in `task: detection`; a checkpoint has it in its saved recipe.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from eyetoy_train.commands.cli import config_place, shipped_config
from eyetoy_train.models.build import find_checkpoint
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.recipe import Recipe
from eyetoy_train.utils.console import log
from eyetoy_train.utils.untrusted import read_yaml

APPS: Mapping[str, str] = {
    "classification": "eyetoy_image.classification.app",
    "detection": "eyetoy_image.detection.app",
    "segmentation": "eyetoy_image.segmentation.app",
}
"""The modules whose `APP` is for a task. One is imported when a recipe asks for it: others may need more packages."""


UNNAMED = "classification"
"""The task of a recipe that names none."""


class TaskApp(Protocol):
    """The commands of one task; see `eyetoy_train.App`, and `predict` of the tasks' own apps."""

    @property
    def default_config(self) -> Path | None:
        """The recipe file that `train` uses if none is named."""

    def parse_args(self, argv: Sequence[str] | None = None) -> tuple[Any, Recipe]:
        """Return the task and the recipe that a command line asks for."""

    def open(self, checkpoint: Path, overrides: Sequence[str] = ()) -> Checkpoint[Any]:
        """Open a run folder or a checkpoint."""

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint."""

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Predict for image files."""


def app_of(task: str) -> TaskApp:
    """Return the app of one of the tasks in `APPS`."""
    app: TaskApp = importlib.import_module(APPS[task]).APP
    return app


@dataclass(frozen=True)
class ImageApp:
    """The commands of the app of a recipe's or checkpoint's task."""

    default: str = "classification"

    def of_recipe(self, argv: Sequence[str] | None = None) -> TaskApp:
        """Return the app of the recipe that `--config` names on the command line, or of the default one.

        On a task that is not in `APPS` the program exits with a message and code 2.
        """
        default_config = app_of(self.default).default_config
        place = config_place(list(sys.argv[1:] if argv is None else argv))
        return self._of_file(default_config if place is None else shipped_config(place[1], default_config))

    def of_checkpoint(self, argv: Sequence[str] | None = None) -> TaskApp:
        """Return the app of the first checkpoint on the command line, or the default one without any.

        On a task that is not in `APPS` the program exits with a message and code 2.
        """
        # The parser is the app's, so its options are not known yet: any argument may be the checkpoint. Without one,
        # the default app's parser has the right message.
        for argument in sys.argv[1:] if argv is None else argv:
            try:
                return self._of_file(find_checkpoint(Path(argument)) / "recipe.yaml")
            except FileNotFoundError:
                continue
        return app_of(self.default)

    def _of_file(self, path: Path | None) -> TaskApp:
        """Return the app of a recipe, or the default one for an unreadable file, whose parser has the right message."""
        try:
            recipe = {} if path is None else read_yaml(path)
        except (OSError, yaml.YAMLError):
            recipe = {}
        task = recipe.get("task", UNNAMED) if isinstance(recipe, dict) else UNNAMED
        if not isinstance(task, str) or task not in APPS:
            log(f"error: {path}: task must be one of {', '.join(APPS)}; got {task}", file=sys.stderr)
            raise SystemExit(2)
        return app_of(task)

    def parse_args(self, argv: Sequence[str] | None = None) -> tuple[Any, Recipe]:
        """Return the task and the recipe of a command line; see `App.parse_args`."""
        return self.of_recipe(argv).parse_args(argv)

    def open(self, checkpoint: Path, overrides: Sequence[str] = ()) -> Checkpoint[Any]:
        """Open a run folder or a checkpoint; see `App.open`."""
        return self.of_checkpoint([str(checkpoint)]).open(checkpoint, overrides)

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint; see `App.validate`."""
        self.of_checkpoint(argv).validate(argv)

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Classify, detect or segment image files, by the checkpoint's task."""
        self.of_checkpoint(argv).predict(argv)


APP = ImageApp()
