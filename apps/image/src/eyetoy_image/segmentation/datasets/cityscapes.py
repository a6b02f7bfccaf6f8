"""Cityscapes (Cordts et al., 2016) in the layout of its archives."""

from __future__ import annotations

from collections.abc import Mapping
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
from eyetoy_train.utils.files import is_clutter

CLASSES: Mapping[int, str] = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""The 19 classes that the benchmark scores, by their value in `labelIds` maps; the other values are ignored."""
NUM_VALUES = 34
FETCH = """Cityscapes is not in {root}, which should hold leftImg8bit/train and gtFine/train.
Sign in at cityscapes-dataset.com, put leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) into
{root}, and unzip both there."""


def read_cityscapes(data: SegmentationData) -> SegmentationSet:
    """List the images.

    Raises:
        FileNotFoundError: the set is missing. The message says where to get it.
    """
    root = Path(data.root)
    if not (root / "leftImg8bit" / "train").is_dir() or not (root / "gtFine" / "train").is_dir():
        raise FileNotFoundError(FETCH.format(root=root))
    splits: dict[Split, tuple[LabelledPicture, ...]] = {}
    for split in ("train", "val"):  # the test's maps are secret
        splits[split] = tuple(
            LabelledPicture(path, _map_of(root, path))
            for path in sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
            if not is_clutter(path.name)
        )
    ignored = [value for value in range(NUM_VALUES) if value not in CLASSES]
    return SegmentationSet(tuple(CLASSES.values()), label_table(CLASSES, [*ignored, IGNORED]), without_empty(splits))


def _map_of(root: Path, path: Path) -> Path:
    split, city = path.parts[-3:-1]
    return root / "gtFine" / split / city / path.name.replace("_leftImg8bit", "_gtFine_labelIds")


def open_cityscapes(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_cityscapes, data))
