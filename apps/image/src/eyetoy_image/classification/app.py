"""The app of image classification: the recipe and the task behind its commands."""

from eyetoy_image.classification.recipe import ImageClassificationRecipe
from eyetoy_image.classification.task import ImageClassification
from eyetoy_image.configs import CONFIGS
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train import ClassificationApp

APP = ClassificationApp(
    ImageClassificationRecipe, ImageClassification, EXTENSIONS, default_config=CONFIGS / "digits.yaml"
)
