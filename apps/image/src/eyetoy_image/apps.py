"""Which of the image apps a recipe is for: the recipe says it, as `task: detection`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from eyetoy_image import classification, detection
from eyetoy_train import App
from eyetoy_train.models import find_checkpoint

APPS: dict[str, App] = {"classification": classification.APP, "detection": detection.APP}
USUAL = "classification"


def app_of_recipe(default_config: Path, argv: Sequence[str] | None = None) -> App:
    """Return the app of the recipe that `--config` names on the command line, or of the default one.

    On a task that is none of `APPS` the program ends with a message and code 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    path = default_config
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config" and (equals or place + 1 < len(arguments)):
            path = Path(value if equals else arguments[place + 1])
    return _app(path)


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


def _app(path: Path) -> App:
    """Return the app of a recipe; of one that cannot be read the usual one, whose parser says what is wrong."""
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return APPS[USUAL]
    task = recipe.get("task", USUAL) if isinstance(recipe, dict) else USUAL
    if task not in APPS:
        print(f"error: {path}: task must be one of {', '.join(APPS)}; got {task}", file=sys.stderr)
        raise SystemExit(2)
    return APPS[task]
