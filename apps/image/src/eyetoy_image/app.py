"""Which of the image apps a recipe is for: the recipe says it, as `task: detection`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from eyetoy_image import classification, detection, segmentation
from eyetoy_image.detection.check import check as check_detection
from eyetoy_image.segmentation.check import check as check_segmentation
from eyetoy_train import App
from eyetoy_train.models.build import find_checkpoint
from eyetoy_train.utils.untrusted import read_yaml

APPS: dict[str, App] = {
    "classification": classification.APP,
    "detection": detection.APP,
    "segmentation": segmentation.APP,
}
CHECKS: dict[str, Callable[[Path], int]] = {"detection": check_detection, "segmentation": check_segmentation}
"""What `check.py` does, from the default recipe to an exit code, for tasks that have annotations."""
USUAL = "classification"


def app_of_recipe(default_config: Path, argv: Sequence[str] | None = None) -> App:
    """Return the app of the recipe that `--config` names on the command line, or of the default one.

    On a task that is none of `APPS` the program ends with a message and code 2.
    """
    return _app(_config(default_config, argv))


def check_of_recipe(default_config: Path, argv: Sequence[str] | None = None) -> Callable[[Path], int]:
    """Return what checks the annotations of a recipe's task; the recipe as in `app_of_recipe`.

    On a task without annotations, or none of `APPS`, the program ends with a message and code 2.
    """
    path = _config(default_config, argv)
    task = _task(path)
    if task not in CHECKS:
        print(f"error: {path}: only {' and '.join(CHECKS)} have annotations to check; got {task}", file=sys.stderr)
        raise SystemExit(2)
    return CHECKS[task]


def app_of_checkpoint(argv: Sequence[str] | None = None) -> App:
    """Return the app of the first checkpoint on the command line; where there is none, one that will say so.

    On a task that is none of `APPS` the program ends with a message and code 2.
    """
    for argument in sys.argv[1:] if argv is None else argv:
        try:
            return _app(find_checkpoint(Path(argument)) / "recipe.yaml")
        except FileNotFoundError:
            continue
    return APPS[USUAL]


def _config(default_config: Path, argv: Sequence[str] | None) -> Path:
    """Return the recipe that `--config` names on the command line, or the default one."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    path = default_config
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config" and (equals or place + 1 < len(arguments)):
            path = Path(value if equals else arguments[place + 1])
    return path


def _app(path: Path) -> App:
    return APPS[_task(path)]


def _task(path: Path) -> str:
    """Return the task of a recipe; of one that cannot be read the usual one, whose parser says what is wrong."""
    try:
        recipe = read_yaml(path)
    except (OSError, yaml.YAMLError):
        return USUAL
    task = recipe.get("task", USUAL) if isinstance(recipe, dict) else USUAL
    if not isinstance(task, str) or task not in APPS:
        print(f"error: {path}: task must be one of {', '.join(APPS)}; got {task}", file=sys.stderr)
        raise SystemExit(2)
    return task
