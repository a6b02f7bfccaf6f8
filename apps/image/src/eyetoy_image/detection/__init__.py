"""Detection and instance segmentation."""

from eyetoy_image.detection.app import APP
from eyetoy_image.detection.predictor import DetectionPredictor, Detections
from eyetoy_image.detection.recipe import DetectionAugmentation, DetectionData, DetectionRecipe, DetectorRecipe
from eyetoy_image.detection.task import Detection

__all__ = [
    "APP",
    "Detection",
    "DetectionAugmentation",
    "DetectionData",
    "DetectionPredictor",
    "DetectionRecipe",
    "Detections",
    "DetectorRecipe",
]
