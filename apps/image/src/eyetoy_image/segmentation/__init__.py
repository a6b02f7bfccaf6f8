"""Semantic segmentation."""

from eyetoy_image.segmentation.app import APP
from eyetoy_image.segmentation.recipe import (
    SegmentationAugmentation,
    SegmentationData,
    SegmentationEvaluation,
    SegmentationRecipe,
    SegmenterRecipe,
)
from eyetoy_image.segmentation.task import Segmentation

__all__ = [
    "APP",
    "Segmentation",
    "SegmentationAugmentation",
    "SegmentationData",
    "SegmentationEvaluation",
    "SegmentationRecipe",
    "SegmenterRecipe",
]
