"""COCO 2017 (Lin et al., 2014) in the layout of its archives."""

from __future__ import annotations

from eyetoy_image.detection.datasets.coco import CocoSource
from eyetoy_image.detection.recipe import DetectionData

FETCH = """COCO 2017 is not in {root}: there is no {path}. Fetch and unpack there
    http://images.cocodataset.org/zips/train2017.zip (19.3 GB)
    http://images.cocodataset.org/zips/val2017.zip (0.8 GB)
    http://images.cocodataset.org/annotations/annotations_trainval2017.zip (0.25 GB)"""


def open_coco2017(data: DetectionData, seed: int) -> CocoSource:
    """Return the images in `data.root`; there is no test split, whose labels are secret."""
    return CocoSource(data, suffix="2017", splits=("train", "val"), missing=FETCH)
