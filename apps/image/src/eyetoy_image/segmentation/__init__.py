"""Semantic segmentation."""

from typing import TYPE_CHECKING

from eyetoy.lazy import lazy_names

if TYPE_CHECKING:
    from eyetoy_image.segmentation.app import APP
    from eyetoy_image.segmentation.predictor import LabelMap, SegmentationPredictor
    from eyetoy_image.segmentation.recipe import (
        SegmentationAugmentation,
        SegmentationData,
        SegmentationEvaluation,
        SegmentationRecipe,
        SegmenterRecipe,
    )
    from eyetoy_image.segmentation.task import Segmentation
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "app": ["APP"],
            "predictor": ["LabelMap", "SegmentationPredictor"],
            "recipe": [
                "SegmentationAugmentation",
                "SegmentationData",
                "SegmentationEvaluation",
                "SegmentationRecipe",
                "SegmenterRecipe",
            ],
            "task": ["Segmentation"],
        },
    )

__all__ = [
    "APP",
    "LabelMap",
    "Segmentation",
    "SegmentationAugmentation",
    "SegmentationData",
    "SegmentationEvaluation",
    "SegmentationPredictor",
    "SegmentationRecipe",
    "SegmenterRecipe",
]
