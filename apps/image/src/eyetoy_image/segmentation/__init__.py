"""Semantic segmentation."""

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
