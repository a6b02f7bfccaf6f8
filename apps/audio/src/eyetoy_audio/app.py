"""The audio app: what its three scripts share."""

from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.recipe import AudioClassificationRecipe
from eyetoy_audio.task import AudioClassification
from eyetoy_train import ClassificationApp

APP = ClassificationApp(AudioClassificationRecipe, AudioClassification, EXTENSIONS)
