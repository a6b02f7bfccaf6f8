"""Image classification."""

from eyetoy_image.classification.app import APP
from eyetoy_image.classification.recipe import ImageAugmentation, ImageClassificationRecipe, ImageData
from eyetoy_image.classification.task import ImageClassification

__all__ = ["APP", "ImageAugmentation", "ImageClassification", "ImageClassificationRecipe", "ImageData"]
