"""Pictures with annotations in a folder: in COCO's, PASCAL VOC's or YOLO's format, found by its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from eyetoy_image.detection.datasets.coco import BESIDE, CocoSource
from eyetoy_image.detection.datasets.objects import CocoSet, Picture
from eyetoy_image.detection.datasets.tree import Listed, Tree
from eyetoy_image.detection.datasets.voc import read_voc
from eyetoy_image.detection.datasets.yolo import label_file, read_yolo
from eyetoy_image.detection.recipe import DetectionData
from eyetoy_train import Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Groups, hold_out_by_name, missing_splits
from eyetoy_train.utils.files import list_folders

READERS: dict[str, Callable[[Tree], Listed]] = {"voc": read_voc, "yolo": read_yolo}
TITLES = {"coco": "COCO's format", "voc": "PASCAL VOC's format", "yolo": "YOLO's format"}


@dataclass(frozen=True)
class Found:
    """The splits of a folder, and what there is to say about them."""

    title: str
    splits: dict[Split, CocoSet]
    held_out: Sequence[Split] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Sequence[str] = ()
    groups: Groups = field(default_factory=dict)
    """The group of every picture, if there are groups: those of one group are held out together."""


class FolderSource(CocoSource):
    """A folder of pictures with annotations; see `CocoSource` for COCO's format, `read_voc` and `read_yolo`.

    Where validation pictures are missing, some of the others are held out, and of a set without splits for a test too.

    Args:
        data: the recipe's part about the data.
        seed: decides which pictures are held out.
    """

    def __init__(self, data: DetectionData, seed: int) -> None:
        super().__init__(data)
        self.seed = seed

    @cached_property
    def found(self) -> Found:
        """The set.

        Raises:
            FileNotFoundError: there is no such folder, or nothing for training in it.
            ValueError: the format is not clear, a file is not of it, a picture has no group, or there are too few.
        """
        tree = Tree(Path(self.data.root))
        name = find_format(tree, self.data)
        if name == "coco":
            splits = {split: coco for split in get_args(Split) if (coco := super(FolderSource, self).split(split))}
            return self._with_held_out(Found(TITLES[name], splits), tree, has_splits=True)
        if self.data.pictures:
            raise ValueError(
                f"data.pictures is for COCO's format, and {tree.root} is in {TITLES[name]}, which finds pictures by "
                "their names; leave it out"
            )
        listed = READERS[name](tree)
        splits = {
            split: CocoSet(tree.root, listed.categories, found, split=split) for split, found in listed.splits.items()
        }
        found = Found(TITLES[name], splits, left_out=listed.left_out + tree.left_out, notes=listed.notes)
        return self._with_held_out(found, tree, has_splits=listed.has_splits)

    def prepare(self) -> None:
        """List the set."""
        _ = self.found

    @property
    def places(self) -> Mapping[Split, str]:
        """Which splits are held out."""
        return dict.fromkeys(self.found.held_out, "held out")

    @cached_property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of files that are no samples, by the reason."""
        return super().left_out if self.found.title == TITLES["coco"] else self.found.left_out

    @property
    def notes(self) -> Sequence[str]:
        """The format, the numbers of boxes, and what the format has to say."""
        boxes = [f"{split} {found.num_annotations:,}" for split, found in self.found.splits.items()]
        return [self.found.title, f"boxes: {', '.join(boxes)}", *self.found.notes]

    def split(self, split: Split) -> CocoSet | None:
        """Return a split as it is in its files."""
        return self.found.splits.get(split)

    def group_of(self, sample: Any) -> str | None:
        """Return the group of a picture."""
        return self.found.groups.get(sample)

    def _with_held_out(self, found: Found, tree: Tree, *, has_splits: bool) -> Found:
        if grouping := Grouping.of(self.data):
            found = replace(found, groups=_groups(found, grouping, tree))
        names = missing_splits(tuple(found.splits) if has_splits else ())
        if not names:
            return found
        train = found.splits["train"]
        pictures = train.pictures
        keys = [found.groups[picture.path] for picture in pictures] if found.groups else []
        labels = list(map(_classes_on, pictures)) if keys else []
        parts = hold_out_by_name(
            pictures, names, self.seed, lambda picture: tree.name(picture.path), keys=keys, labels=labels
        )
        splits = {split: replace(train, pictures=part, strays=(), split=split) for split, part in parts.items()}
        splits["train"] = replace(splits["train"], strays=train.strays)
        return replace(found, splits=found.splits | splits, held_out=tuple(parts.keys() - {"train"}))


def _groups(found: Found, grouping: Grouping, tree: Tree) -> Groups:
    """Return the group of every picture.

    Raises:
        ValueError: a picture has none, or the format has no such column.
    """
    pictures = [picture for coco in found.splits.values() for picture in coco.pictures]
    paths = [picture.path for picture in pictures]
    if grouping.column is None:
        return grouping.by_file(paths, tree.root)
    if found.title != TITLES["coco"]:
        raise ValueError(
            f"data.group_column={grouping.column} is for COCO's format, and {tree.root} is in {found.title}; take "
            "data.group_pattern"
        )
    values = {tree.name(picture.path): picture.group for picture in pictures}
    return dict(zip(paths, grouping.of_values(values, f"the images of {tree.root}"), strict=True))


def _classes_on(picture: Picture) -> set[str]:
    """Return the classes of a picture's objects, as texts: a faulty file may have anything there."""
    return {str(one.content.get("category_id")) for one in picture.annotations if not one.fault}


def find_format(tree: Tree, data: DetectionData) -> str:
    """Return the format of a folder: the recipe's, or the one of its files.

    Raises:
        FileNotFoundError: there is no such folder, or it has no annotations.
        ValueError: it has annotations of several formats, or the recipe names two.
    """
    if data.annotations and data.format not in ("auto", "coco"):
        raise ValueError(
            f"data.annotations names files of COCO's format, and data.format is {data.format}; leave one of them out"
        )
    if data.annotations or data.format == "coco":
        return "coco"
    if not tree.root.is_dir():
        raise FileNotFoundError(f"there is no folder {tree.root}; it should hold pictures and their annotations")
    if data.format != "auto":
        return data.format
    found = formats_of(tree)
    if len(found) > 1:
        titles = " and ".join(TITLES[name] for name in found)
        choices = " or ".join(f"--data.format {name}" for name in found)
        raise ValueError(f"{tree.root} has annotations in {titles}; say which to read with {choices}")
    if not found:
        inner = [folder.name for folder in list_folders(tree.root) if formats_of(Tree(folder))]
        hint = f"; its folder {inner[0]} does, which could be the data.root" if inner else ""
        raise FileNotFoundError(
            f"{tree.root} has no annotations: there is no annotations/instances_train.json and no train/{BESIDE} "
            f"(COCO; --data.annotations takes other names), no .xml file of a picture (PASCAL VOC), and no .txt file "
            f"of a picture (YOLO){hint}"
        )
    return found[0]


def formats_of(tree: Tree) -> list[str]:
    """Return the formats of which a folder has files."""
    found = []
    if any(tree.root.glob("annotations/instances_*.json")) or any(tree.root.glob(f"*/{BESIDE}")):
        found.append("coco")
    if any(path.stem in tree.by_stem or path.parent.name == "Annotations" for path in tree.ending_in(".xml")):
        found.append("voc")
    if tree.ending_in(".txt") and any(label_file(path) for path in tree.pictures):
        found.append("yolo")
    return found


def open_folder(data: DetectionData, seed: int) -> FolderSource:
    """Return the images in `data.root`."""
    return FolderSource(data, seed)
