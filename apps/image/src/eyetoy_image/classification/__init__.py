"""Image classification."""

from typing import TYPE_CHECKING

from eyetoy.lazy import lazy_names

if TYPE_CHECKING:
    from eyetoy_image.classification.app import APP
    from eyetoy_image.classification.recipe import ImageAugmentation, ImageClassificationRecipe, ImageData
    from eyetoy_image.classification.task import ImageClassification
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "app": ["APP"],
            "recipe": ["ImageAugmentation", "ImageClassificationRecipe", "ImageData"],
            "task": ["ImageClassification"],
        },
    )

__all__ = ["APP", "ImageAugmentation", "ImageClassification", "ImageClassificationRecipe", "ImageData"]
