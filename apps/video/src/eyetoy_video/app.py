"""The video app: the recipe and the task behind its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyetoy_train.commands.app import ClassificationApp, Deferred
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_video.configs import CONFIGS
from eyetoy_video.recipe import VideoClassificationRecipe

if TYPE_CHECKING:
    from eyetoy_video.task import VideoClassification


def _task() -> type[VideoClassification]:
    from eyetoy_video.task import VideoClassification

    return VideoClassification


APP = ClassificationApp(
    VideoClassificationRecipe, Deferred(_task), VIDEO_SUFFIXES, default_config=CONFIGS / "moving_digits.yaml"
)
