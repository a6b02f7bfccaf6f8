"""The audio app: the recipe and the task behind its commands."""

from eyetoy_audio.configs import CONFIGS
from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.recipe import AudioClassificationRecipe
from eyetoy_audio.task import AudioClassification
from eyetoy_train import ClassificationApp

APP = ClassificationApp(
    AudioClassificationRecipe, AudioClassification, EXTENSIONS, default_config=CONFIGS / "spoken_keywords.yaml"
)
