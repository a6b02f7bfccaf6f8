"""PASCAL VOC 2012 (Everingham et al., 2015) in the layout of its archive."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from eyetoy_image.segmentation.datasets.label_maps import IGNORED
from eyetoy_image.segmentation.datasets.label_set import (
    LabelledPicture,
    SegmentationSet,
    SegmentationSource,
    label_table,
    without_empty,
)
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_train import Split
from eyetoy_train.utils.untrusted import read_names

FOLDER = Path("VOCdevkit", "VOC2012")
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
FETCH = """PASCAL VOC 2012 is not in {root}, which should hold VOCdevkit/VOC2012. This fetches it (2 GB):
    python -c "from torchvision.datasets import VOCSegmentation; VOCSegmentation('{root}', download=True)\""""


def read_voc2012(data: SegmentationData) -> SegmentationSet:
    """List the images.

    Raises:
        FileNotFoundError: the set is missing. The message has the command that fetches it.
    """
    root = Path(data.root) / FOLDER
    lists = root / "ImageSets" / "Segmentation"
    if not (lists / "train.txt").is_file():
        raise FileNotFoundError(FETCH.format(root=data.root))
    splits: dict[Split, tuple[LabelledPicture, ...]] = {}
    for split in ("train", "val"):
        listed = lists / f"{split}.txt"
        splits[split] = tuple(
            LabelledPicture(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png")
            for name in (read_names(listed) if listed.is_file() else ())
        )
    # 255 is the border between objects, which the benchmark does not score.
    return SegmentationSet(CLASSES, label_table(range(len(CLASSES)), [IGNORED]), without_empty(splits))


def open_voc2012(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_voc2012, data))
