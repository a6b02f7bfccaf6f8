"""Untrained detectors and segmenters of the least size, saved as runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eyetoy_image.detection import Detection, DetectionRecipe, DetectorRecipe
from eyetoy_image.detection.datasets.coco import Category
from eyetoy_image.segmentation import Segmentation, SegmentationRecipe, SegmenterRecipe
from eyetoy_train import ModelRecipe

CLASSES = ["cat", "dog", "cow"]
MODEL = ModelRecipe(name="eyetoy2d_pico", options={"changes": {"global_depth": 0}})
DETECTOR = DetectorRecipe(
    fpn_channels=8,
    anchor_sizes=[8, 16, 32],
    box_head_channels=8,
    mask_head_channels=[8],
    score_threshold=0.0,
    max_detections=6,
    proposals_eval=20,
)
SEGMENTER = SegmenterRecipe(channels=8, auxiliary_channels=8, norm="group")


def save_run(kind: str, run: Path, **data: Any) -> None:
    """Write the run of a detector or a segmenter with new weights; `data` are values of the recipe's part."""
    task: Any
    if kind == "detector":
        task = Detection(DetectionRecipe(model=MODEL, detector=DETECTOR))
        task.data.short_side, task.data.long_side = 64, 96
    else:
        task = Segmentation(SegmentationRecipe(model=MODEL, segmenter=SEGMENTER))
    for name, value in data.items():
        setattr(task.data, name, value)
    # Only the names of the classes are needed of the data.
    categories = [Category(10 * i, label) for i, label in enumerate(CLASSES, 1)]
    task.source = SimpleNamespace(classes=CLASSES, categories=categories)
    task.save(task.build_model(), run / "checkpoints" / "best")
