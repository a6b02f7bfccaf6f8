"""Images and label maps in folders."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from eyetoy_image.dense.held_out import hold_out, missing_splits
from eyetoy_image.segmentation.datasets.label_set import (
    SPLITS,
    LabelledPicture,
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

MAPS = ("maps", "annotations", "labels", "masks")
"""Names of the folder of label maps. The first one counts alone: `annotations` may be those of another task."""


def read_folder(data: SegmentationData, seed: int = 0) -> SegmentationSet:
    """List images in `images/SPLIT` and label maps of the same names in `maps/SPLIT`, or in both without splits.

    Where validation images are missing, some of the others are held out, and of a set without splits for a test too.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a split has two folders, or there are two folders of label maps.
    """
    root = Path(data.root)
    images, maps = _split_folders(root / "images"), _maps_folder(root)
    if images:
        folders = _split_folders(maps)
        parts = {split: pair_pictures(path, folders.get(split, maps / split)) for split, path in images.items()}
    else:
        parts = {"train": pair_pictures(root / "images", maps)}
    if not parts.get("train"):
        raise FileNotFoundError(
            f"{root} should hold pictures in images/train and label maps in maps/train; it does not"
        )
    found = with_classes(data, read_names(root / "classes.txt"), without_empty(parts))
    names = missing_splits(tuple(found.splits) if images else ())
    if not names:
        return found
    held = hold_out(found.splits["train"], names, seed, _name_of)
    splits = {split: held.get(split) or found.splits.get(split) or () for split in SPLITS}
    return replace(found, splits=without_empty(splits), held_out=tuple(held.keys() - {"train"}))


def _name_of(picture: LabelledPicture) -> str:
    return Path(str(picture.path)).name


def _maps_folder(root: Path) -> Path:
    """Return the folder of label maps.

    Raises:
        ValueError: there are several.
    """
    present = [root / name for name in MAPS if _split_folders(root / name) or any((root / name).glob("*.png"))]
    if len(present) > 1 and present[0].name != MAPS[0]:
        names = " and in ".join(path.name for path in present)
        raise ValueError(f"{root} has label maps in {names}; rename the folder to read to maps")
    return present[0] if present else root / MAPS[0]


def _split_folders(folder: Path) -> dict[Split, Path]:
    present = [path.name for path in list_folders(folder)] if folder.is_dir() else []
    names = {split: find_only_split(split, present, folder) for split in SPLITS}
    return {split: folder / name for split, name in names.items() if name}


def open_folder(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_folder, data, seed))
