"""Images and label maps in folders."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from eyetoy_image.io.files import EXTENSIONS
from eyetoy_image.segmentation.datasets.label_set import (
    SPLITS,
    SegmentationSet,
    SegmentationSource,
    pair_pictures,
    read_names,
    with_classes,
)
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_train import Split
from eyetoy_train.data.splits import find_only_split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import count_beside, list_folders


def read_folder(data: SegmentationData) -> SegmentationSet:
    """List images in `images/SPLIT` and label maps of the same names in `maps/SPLIT`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a split has two folders.
    """
    root = Path(data.root)
    left_out: Counter[str] = Counter()
    images, maps = (_split_folders(root / name, left_out) for name in ("images", "maps"))
    if "train" not in images:
        raise FileNotFoundError(
            f"{root} should hold pictures in images/train and label maps in maps/train; it does not"
        )
    splits = {
        split: pair_pictures(path, maps.get(split, root / "maps" / split), left_out) for split, path in images.items()
    }
    empty = [images[split] for split, pictures in splits.items() if not pictures]
    if empty:
        raise FileNotFoundError(f"found no picture ending in {', '.join(sorted(EXTENSIONS))} in {empty[0]}")
    names = root / "classes.txt"
    left_out += count_beside(root, "files beside images and maps", (names,))
    others = [path.name for path in list_folders(root) if path.name not in ("images", "maps")]
    others += [f"maps/{maps[split].name}" for split in maps if split not in images]
    if others:
        left_out[f"folders that are not read ({named(others)})"] += len(others)
    return with_classes(data, read_names(names), splits, left_out)


def _split_folders(folder: Path, left_out: Counter[str]) -> dict[Split, Path]:
    if not folder.is_dir():
        return {}
    present = [path.name for path in list_folders(folder)]
    names = {split: find_only_split(split, present, folder) for split in SPLITS}
    left_out += count_beside(folder, "files beside the split folders")
    if others := [name for name in present if name not in names.values()]:
        left_out[f"folders that are no split ({named(others)})"] += len(others)
    return {split: folder / name for split, name in names.items() if name}


def open_folder(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_folder, data))
