"""Handwritten digits on photographs, composed with exact boxes and masks."""

from __future__ import annotations

from eyetoy_image.dense.composed import write_composed_digits
from eyetoy_image.detection.datasets.coco import CocoSource
from eyetoy_image.detection.recipe import DetectionData


def open_composed_digits(data: DetectionData, seed: int) -> CocoSource:
    """Return the images in `data.root`, composed there if it is missing."""
    return CocoSource(data, write=write_composed_digits)
