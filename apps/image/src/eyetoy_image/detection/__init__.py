"""Detection and instance segmentation."""

from typing import TYPE_CHECKING

from eyetoy.lazy import lazy_names

if TYPE_CHECKING:
    from eyetoy_image.detection.app import APP
    from eyetoy_image.detection.predictor import DetectionPredictor, Detections
    from eyetoy_image.detection.recipe import DetectionAugmentation, DetectionData, DetectionRecipe, DetectorRecipe
    from eyetoy_image.detection.task import Detection
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "app": ["APP"],
            "predictor": ["DetectionPredictor", "Detections"],
            "recipe": ["DetectionAugmentation", "DetectionData", "DetectionRecipe", "DetectorRecipe"],
            "task": ["Detection"],
        },
    )

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
