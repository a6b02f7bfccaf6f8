"""The app of image classification: the recipe and the task behind its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyetoy_image.classification.recipe import ImageClassificationRecipe
from eyetoy_image.configs import CONFIGS
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train.commands.app import ClassificationApp, Deferred

if TYPE_CHECKING:
    from eyetoy_image.classification.task import ImageClassification


def _task() -> type[ImageClassification]:
    from eyetoy_image.classification.task import ImageClassification

    return ImageClassification


APP = ClassificationApp(ImageClassificationRecipe, Deferred(_task), EXTENSIONS, default_config=CONFIGS / "digits.yaml")
