"""The audio app: the recipe and the task behind its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyetoy_audio.configs import CONFIGS
from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.recipe import AudioClassificationRecipe
from eyetoy_train.commands.app import ClassificationApp, Deferred

if TYPE_CHECKING:
    from eyetoy_audio.task import AudioClassification


def _task() -> type[AudioClassification]:
    from eyetoy_audio.task import AudioClassification

    return AudioClassification


APP = ClassificationApp(
    AudioClassificationRecipe, Deferred(_task), EXTENSIONS, default_config=CONFIGS / "spoken_keywords.yaml"
)
