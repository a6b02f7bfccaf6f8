"""Where the pictures, label maps and classes of a set lie: sets by name, and any folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eyetoy_image.io.files import EXTENSIONS
from eyetoy_image.io.hub import PictureFile
from eyetoy_image.segmentation.datasets.label_maps import (
    IGNORED,
    MOST_CLASSES,
    BadLabelMapError,
    LabelTable,
    read_values,
)
from eyetoy_image.segmentation.recipe import SegmentationData, Source
from eyetoy_train import Split
from eyetoy_train.data.hub import HubSample, columns_of_type, load_splits, undecoded

ADE_FOLDER = "ADEChallengeData2016"
ADE_SPLITS: Mapping[Split, str] = {"train": "training", "val": "validation"}
ADE_CLASSES = 150
VOC_FOLDER = Path("VOCdevkit", "VOC2012")
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CITYSCAPES_CLASSES: Mapping[int, str] = {
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
CITYSCAPES_VALUES = 34

IMAGE_COLUMNS = ("image", "pixel_values")
"""What sets on the hub call the column with the pictures."""

FETCH_ADE = """ADE20K's scene parsing benchmark is not in {root}, which should hold ADEChallengeData2016.
This fetches it (0.9 GB):
    wget -P {root} http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip
    unzip -d {root} {root}/ADEChallengeData2016.zip"""
FETCH_CITYSCAPES = """Cityscapes is not in {root}, which should hold leftImg8bit/train and gtFine/train.
Sign in at cityscapes-dataset.com, put leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) into
{root}, and unzip both there."""
FETCH_VOC = """PASCAL VOC 2012 is not in {root}, which should hold VOCdevkit/VOC2012. This fetches it (2 GB):
    python -c "from torchvision.datasets import VOCSegmentation; VOCSegmentation('{root}', download=True)\""""


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and the file with the class of its pixels."""

    path: PictureFile
    map: PictureFile


@dataclass(frozen=True)
class SegmentationSet:
    """A set: its classes, what the values of its label maps mean, and its pictures by split."""

    classes: tuple[str, ...]
    table: LabelTable
    splits: Mapping[Split, tuple[LabelledPicture, ...]]


def read_set(data: SegmentationData) -> SegmentationSet:
    """List a set; no picture is opened.

    Raises:
        FileNotFoundError: it is not there. The message says how to fetch it.
        ValueError: it has no classes, or too many.
    """
    readers: Mapping[Source, Callable[[SegmentationData], SegmentationSet]] = {
        "folder": _folder,
        "composed_digits": _composed_digits,
        "ade20k": _ade20k,
        "cityscapes": _cityscapes,
        "voc2012": _voc2012,
        "hub": _hub,
    }
    found = readers[data.source](data)
    if not found.splits.get("train"):
        raise FileNotFoundError(f"{data.root} has no pictures for training")
    return found


def _composed_digits(data: SegmentationData) -> SegmentationSet:
    root = Path(data.root)
    classes = ("background", *map(str, range(10)))
    splits = {split: _pairs(root / split, root / "maps" / split) for split in _SPLITS}
    return SegmentationSet(classes, _table(range(len(classes))), _filled(splits))


def _folder(data: SegmentationData) -> SegmentationSet:
    root = Path(data.root)
    if not (root / "images" / "train").is_dir():
        raise FileNotFoundError(
            f"{root} should hold pictures in images/train and label maps in maps/train; it does not"
        )
    splits = _filled({split: _pairs(root / "images" / split, root / "maps" / split) for split in _SPLITS})
    return _with_classes(data, _named(root / "classes.txt"), splits)


def _with_classes(
    data: SegmentationData, names: tuple[str, ...], splits: Mapping[Split, tuple[LabelledPicture, ...]]
) -> SegmentationSet:
    """Return a set whose classes are the values that are not ignored, in order: as many as there are names."""
    values = [value for value in range(256) if value not in data.ignored]
    classes = names or _numbered(splits.get("train", ()), values)
    if not 1 <= len(classes) <= min(MOST_CLASSES, len(values)):
        raise ValueError(f"{data.root} must have 1 to {min(MOST_CLASSES, len(values))} classes; got {len(classes)}")
    return SegmentationSet(classes, _table(values[: len(classes)], data.ignored), splits)


def _named(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _numbered(pictures: Sequence[LabelledPicture], values: Sequence[int]) -> tuple[str, ...]:
    """Name classes by their values, up to the largest one on the training maps; those that cannot be read have none."""
    largest = -1
    for picture in pictures:
        try:
            found = read_values(picture.map)
        except BadLabelMapError:
            continue  # told with all others that are wrong
        counted = [int(value) for value in set(found.flatten().tolist()) if value in values]
        largest = max([largest, *counted])
    return tuple(str(value) for value in values if value <= largest)


def _ade20k(data: SegmentationData) -> SegmentationSet:
    root = Path(data.root) / ADE_FOLDER
    if not (root / "images" / "training").is_dir():
        raise FileNotFoundError(FETCH_ADE.format(root=data.root))
    splits = {split: _pairs(root / "images" / name, root / "annotations" / name) for split, name in ADE_SPLITS.items()}
    names = _ade_names(root / "objectInfo150.txt") or tuple(map(str, range(1, ADE_CLASSES + 1)))
    return SegmentationSet(names, _table(range(1, ADE_CLASSES + 1), [0]), _filled(splits))


def _ade_names(path: Path) -> tuple[str, ...]:
    """Return the last column of the benchmark's list of classes, which has synonyms in it; the first of each."""
    if not path.is_file():
        return ()
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()][1:]
    names = tuple(re.split("[,;]", row[-1])[0].strip() for row in rows)
    if len(names) != ADE_CLASSES:
        raise ValueError(f"{path} must list {ADE_CLASSES} classes below its header; got {len(names)}")
    return names


def _cityscapes(data: SegmentationData) -> SegmentationSet:
    root = Path(data.root)
    if not (root / "leftImg8bit" / "train").is_dir() or not (root / "gtFine" / "train").is_dir():
        raise FileNotFoundError(FETCH_CITYSCAPES.format(root=root))
    splits: dict[Split, tuple[LabelledPicture, ...]] = {}
    for split in ("train", "val"):  # the test's maps are kept secret
        splits[split] = tuple(
            LabelledPicture(path, _cityscapes_map(root, path))
            for path in sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        )
    ignored = [value for value in range(CITYSCAPES_VALUES) if value not in CITYSCAPES_CLASSES]
    return SegmentationSet(
        tuple(CITYSCAPES_CLASSES.values()), _table(CITYSCAPES_CLASSES, [*ignored, IGNORED]), _filled(splits)
    )


def _cityscapes_map(root: Path, path: Path) -> Path:
    split, city = path.parts[-3:-1]
    return root / "gtFine" / split / city / path.name.replace("_leftImg8bit", "_gtFine_labelIds")


def _voc2012(data: SegmentationData) -> SegmentationSet:
    root = Path(data.root) / VOC_FOLDER
    lists = root / "ImageSets" / "Segmentation"
    if not (lists / "train.txt").is_file():
        raise FileNotFoundError(FETCH_VOC.format(root=data.root))
    splits: dict[Split, tuple[LabelledPicture, ...]] = {}
    for split in ("train", "val"):
        splits[split] = tuple(
            LabelledPicture(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png")
            for name in _named(lists / f"{split}.txt")
        )
    return SegmentationSet(VOC_CLASSES, _table(range(len(VOC_CLASSES)), [IGNORED]), _filled(splits))


def _hub(data: SegmentationData) -> SegmentationSet:
    if data.classes is not None and not Path(data.classes).is_file():
        raise FileNotFoundError(
            f"data.classes must be a file with the names of the classes; {data.classes} is not there"
        )
    parts = load_splits(data.root, splits=data.splits, config=data.config, revision=data.revision)
    columns = _picture_columns(data, parts["train"])
    splits = {split: _rows(undecoded(part, columns, "Image"), columns) for split, part in parts.items()}
    names = () if data.classes is None else _named(Path(data.classes))
    return _with_classes(data, names, _filled(splits))


def _picture_columns(data: SegmentationData, rows: Any) -> tuple[str, str]:
    """Return the columns of pictures and of label maps: those that are named, or the usual one and what is left."""
    found = columns_of_type(rows, "Image")
    image = data.image_column or next((name for name in IMAGE_COLUMNS if name in found), None)
    others = [name for name in found if name != image]
    labels = data.label_column or (others[0] if len(others) == 1 else None)
    if image == labels or image not in found or labels not in found:
        raise ValueError(
            f"{data.root} has the columns of pictures {', '.join(found) or 'none'}; name those of the pictures and of "
            f"the label maps by data.image_column and data.label_column; got {data.image_column}, {data.label_column}"
        )
    return image, labels


def _rows(rows: Any, columns: tuple[str, str]) -> tuple[LabelledPicture, ...]:
    image, labels = columns
    return tuple(LabelledPicture(HubSample(rows, i, image), HubSample(rows, i, labels)) for i in range(len(rows)))


_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def _pairs(pictures: Path, maps: Path) -> tuple[LabelledPicture, ...]:
    """Pair pictures with label maps by name; one without the other is listed too, and told by `find_bad`."""
    if not pictures.is_dir():
        return ()
    paths = {path.stem: path for path in sorted(pictures.iterdir()) if path.suffix.lower() in EXTENSIONS}
    strays = {path.stem: pictures / path.stem for path in sorted(maps.glob("*.png")) if path.stem not in paths}
    return tuple(LabelledPicture(path, maps / f"{stem}.png") for stem, path in (paths | strays).items())


def _table(values: Sequence[int] | Mapping[int, str] | range, ignored: Sequence[int] = ()) -> LabelTable:
    """Return a table of values in the order of their classes."""
    return LabelTable({value: label for label, value in enumerate(values)} | dict.fromkeys(ignored, IGNORED))


def _filled(
    splits: Mapping[Split, tuple[LabelledPicture, ...]],
) -> dict[Split, tuple[LabelledPicture, ...]]:
    return {split: pictures for split, pictures in splits.items() if pictures}
