"""Images with annotation files in COCO's format."""

from __future__ import annotations

from eyetoy_image.detection.datasets.coco import CocoSource
from eyetoy_image.detection.recipe import DetectionData


def open_folder(data: DetectionData, seed: int) -> CocoSource:
    """Return the images in `data.root`."""
    return CocoSource(data)
