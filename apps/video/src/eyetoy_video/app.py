"""The video app: the recipe and the task behind its commands."""

from eyetoy_train import ClassificationApp
from eyetoy_video.configs import CONFIGS
from eyetoy_video.io.files import EXTENSIONS
from eyetoy_video.recipe import VideoClassificationRecipe
from eyetoy_video.task import VideoClassification

APP = ClassificationApp(
    VideoClassificationRecipe, VideoClassification, EXTENSIONS, default_config=CONFIGS / "moving_digits.yaml"
)
