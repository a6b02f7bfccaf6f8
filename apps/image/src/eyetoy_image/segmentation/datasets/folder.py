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
from eyetoy_train import Split
from eyetoy_train.data.splits import find_only_split
from eyetoy_train.utils.files import list_folders


def read_folder(data: SegmentationData) -> SegmentationSet:
    """List images in `images/SPLIT` and label maps of the same names in `maps/SPLIT`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a split has two folders.
    """
    root = Path(data.root)
    images, maps = (_split_folders(root / name) for name in ("images", "maps"))
    if "train" not in images:
        raise FileNotFoundError(
            f"{root} should hold pictures in images/train and label maps in maps/train; it does not"
        )
    splits = without_empty(
        {split: pair_pictures(path, maps.get(split, root / "maps" / split)) for split, path in images.items()}
    )
    return with_classes(data, read_names(root / "classes.txt"), splits)


def _split_folders(folder: Path) -> dict[Split, Path]:
    present = [path.name for path in list_folders(folder)] if folder.is_dir() else []
    names = {split: find_only_split(split, present, folder) for split in SPLITS}
    return {split: folder / name for split, name in names.items() if name}


def open_folder(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_folder, data))
