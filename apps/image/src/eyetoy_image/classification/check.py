"""Check the pictures of a classification data set before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from eyetoy_image.classification.app import APP
from eyetoy_image.classification.datasets import DATASETS
from eyetoy_image.classification.recipe import ImageClassificationRecipe
from eyetoy_image.io.background import Background
from eyetoy_image.io.files import read_image
from eyetoy_train.commands.check import Measure, check_files
from eyetoy_train.ending import exit_on_error


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the pictures of a recipe's set, and log findings. The exit code is returned, see `check_parser`."""
    return check_files(ImageClassificationRecipe, APP.default_config, DATASETS, _measure, argv)


def _measure(recipe: ImageClassificationRecipe) -> Measure:
    return partial(_size, background=recipe.data.background)


def _size(path: Path, background: Background) -> Mapping[str, float]:
    height, width = read_image(path, grayscale=False, background=background).shape[-2:]
    return {"width": width, "height": height}
