"""Images and label maps in folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from eyetoy_image.io.files import EXTENSIONS
from eyetoy_image.segmentation.datasets.label_set import (
    SPLITS,
    LabelledPicture,
    SegmentationSet,
    SegmentationSource,
    pair_pictures,
    with_classes,
)
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_train import Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Groups, hold_out_by_name, missing_splits
from eyetoy_train.data.splits import beside_splits, find_only_split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import count_beside, list_folders
from eyetoy_train.utils.untrusted import read_class_names

MAPS = ("maps", "annotations", "labels", "masks")
"""Names of the folder of label maps. The first one counts alone: `annotations` may be those of another task."""


def read_folder(data: SegmentationData, seed: int = 0) -> SegmentationSet:
    """List images in `images/SPLIT` and label maps of the same names in `maps/SPLIT`, or in both without splits.

    Where validation images are missing, some of the others are held out, and of a set without splits for a test too.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a split has two folders, there are two folders of label maps, the names of classes have an empty
            line, a picture has no group, or there are too few groups.
    """
    root = Path(data.root)
    left_out: Counter[str] = Counter()
    images, maps = _split_folders(root / "images"), _maps_folder(root)
    folders = _split_folders(maps) if images else {}
    if images:
        left_out += beside_splits(root / "images", [path.name for path in images.values()])
        if maps.is_dir():
            left_out += beside_splits(maps, [path.name for path in folders.values()])
        parts = {
            split: pair_pictures(path, folders.get(split, maps / split), left_out) for split, path in images.items()
        }
    else:
        parts = {"train": pair_pictures(root / "images", maps, left_out)}
    if "train" not in parts or not (root / "images").is_dir():
        raise FileNotFoundError(
            f"{root} should hold pictures in images/train and label maps in maps/train; it does not"
        )
    empty = [images.get(split, root / "images") for split, pictures in parts.items() if not pictures]
    if empty:
        raise FileNotFoundError(f"found no picture ending in {', '.join(sorted(EXTENSIONS))} in {empty[0]}")
    left_out += _beside(root, maps, [folders[split] for split in folders if split not in images])
    listed = root / "classes.txt"
    names = tuple(read_class_names(listed)) if listed.is_file() else ()
    found = with_classes(data, names, parts, left_out)
    groups: Groups = {}
    if grouping := Grouping.of(data):
        groups = grouping.by_file((Path(str(picture.path)) for part in found.splits.values() for picture in part), root)
        found = replace(found, groups=groups)
    missing = missing_splits(tuple(found.splits) if images else ())
    if not missing:
        return found
    pictures = found.splits["train"]
    # Without labels: the classes of a picture are on its map, which is not read here.
    keys = [groups[Path(str(picture.path))] for picture in pictures] if groups else ()
    held = hold_out_by_name(pictures, missing, seed, _name_of, keys=keys)
    parts = {**found.splits, **held}
    splits = {split: parts[split] for split in SPLITS if split in parts}
    return replace(found, splits=splits, held_out=tuple(held.keys() - {"train"}))


def _name_of(picture: LabelledPicture) -> str:
    return Path(str(picture.path)).name


def _beside(root: Path, maps: Path, stray: Sequence[Path]) -> Counter[str]:
    """Count what a root holds beside pictures and label maps, and the folders of maps without pictures."""
    left_out = count_beside(root, "files beside images and maps", (root / "classes.txt",))
    others = [path.name for path in list_folders(root) if path not in (root / "images", maps)]
    others += [f"{maps.name}/{path.name}" for path in stray]
    if others:
        left_out[f"folders that are not read ({named(others)})"] += len(others)
    return left_out


def _maps_folder(root: Path) -> Path:
    """Return the folder of label maps.

    Raises:
        ValueError: there are several.
    """
    present = [root / name for name in MAPS if _holds_maps(root / name)]
    if len(present) > 1 and present[0].name != MAPS[0]:
        names = " and in ".join(path.name for path in present)
        raise ValueError(f"{root} has label maps in {names}; rename the folder to read to maps")
    return present[0] if present else root / MAPS[0]


def _holds_maps(folder: Path) -> bool:
    """Whether a folder has folders of splits, or label maps."""
    return bool(_split_folders(folder)) or any(folder.glob("*.png"))


def _split_folders(folder: Path) -> dict[Split, Path]:
    if not folder.is_dir():
        return {}
    present = [path.name for path in list_folders(folder)]
    names = {split: find_only_split(split, present, folder) for split in SPLITS}
    return {split: folder / name for split, name in names.items() if name}


def open_folder(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_folder, data, seed))
