"""Image classification."""

from eyetoy_image.classification.recipe import ImageAugmentation, ImageClassificationRecipe, ImageData
from eyetoy_image.classification.task import ImageClassification
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train import ClassificationApp

APP = ClassificationApp(ImageClassificationRecipe, ImageClassification, EXTENSIONS)

__all__ = ["APP", "ImageAugmentation", "ImageClassification", "ImageClassificationRecipe", "ImageData"]
