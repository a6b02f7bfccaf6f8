"""Images and label maps in folders."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from eyetoy_image.segmentation.datasets.label_set import (
    SPLITS,
    SegmentationSet,
    SegmentationSource,
    pair_pictures,
    read_names,
    with_classes,
    without_empty,
)
from eyetoy_image.segmentation.recipe import SegmentationData


def read_folder(data: SegmentationData) -> SegmentationSet:
    """List images in `images/SPLIT` and label maps of the same names in `maps/SPLIT`.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(data.root)
    if not (root / "images" / "train").is_dir():
        raise FileNotFoundError(
            f"{root} should hold pictures in images/train and label maps in maps/train; it does not"
        )
    splits = without_empty({split: pair_pictures(root / "images" / split, root / "maps" / split) for split in SPLITS})
    return with_classes(data, read_names(root / "classes.txt"), splits)


def open_folder(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_folder, data))
