"""Handwritten digits on photographs, composed with exact label maps."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from eyetoy_image.dense.composed import write_composed_digits
from eyetoy_image.segmentation.datasets.label_set import (
    SPLITS,
    SegmentationSet,
    SegmentationSource,
    label_table,
    pair_pictures,
    without_empty,
)
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_train.data.folder import write_once


def read_composed_digits(data: SegmentationData) -> SegmentationSet:
    """List the composed images in `data.root`."""
    root = Path(data.root)
    classes = ("background", *map(str, range(10)))
    left_out: Counter[str] = Counter()
    splits = {split: pair_pictures(root / split, root / "maps" / split, left_out) for split in SPLITS}
    return SegmentationSet(classes, label_table(range(len(classes))), without_empty(splits), left_out)


def open_composed_digits(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`, composed there if it is missing."""
    return SegmentationSource(
        data.root,
        partial(read_composed_digits, data),
        write=partial(write_once, Path(data.root), write_composed_digits),
    )
