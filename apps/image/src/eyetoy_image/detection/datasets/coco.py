"""Read annotation files in COCO's format, and find the folders of their images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from eyetoy_image.detection.datasets.objects import Annotation, Category, CocoSet, ObjectSource, Picture
from eyetoy_image.detection.recipe import DetectionData
from eyetoy_image.io.files import EXTENSIONS, MOST_PIXELS
from eyetoy_train import Split
from eyetoy_train.data.folder import write_once
from eyetoy_train.data.splits import find_only_split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import count_beside, list_files, list_folders
from eyetoy_train.utils.untrusted import read_json

BESIDE = "_annotations.coco.json"
"""Name of the annotation file that lies among the images of its split, as Roboflow exports it."""


class CocoSource(ObjectSource):
    """Images with annotation files in COCO's format.

    Args:
        data: the recipe's part about the data.
        suffix: suffix of a split's name in the usual file names, such as 2017.
        splits: the splits that must be present.
        missing: the message about a missing file, with `{root}`, `{path}` and `{split}`.
        write: makes the data set in its root if that is missing.
    """

    def __init__(
        self,
        data: DetectionData,
        *,
        suffix: str = "",
        splits: Sequence[Split] = ("train",),
        missing: str = "there is no {path}, the {split} split's; of other names, say them with --data.annotations "
        "'{{{split}: FILE}}' and --data.pictures '{{{split}: FOLDER}}'",
        write: Callable[[Path], None] | None = None,
    ) -> None:
        self._splits: dict[Split, CocoSet | None] = {}
        self.data, self.suffix, self.required = data, suffix, splits
        self.missing, self.write = missing, write

    @property
    def root(self) -> str:
        """The folder of the data."""
        return self.data.root

    @property
    def makes_data(self) -> bool:
        """Whether `prepare` makes the data set where it is missing."""
        return self.write is not None

    def prepare(self) -> None:
        """Make the data set if it is missing."""
        if self.write is not None:
            write_once(Path(self.data.root), self.write)

    def split(self, split: Split) -> CocoSet | None:
        """Return a split as it is in its file."""
        if split not in self._splits:  # read once: COCO's training file has 450 MB
            files = self.find_files(split)
            coco = None if files is None else read_coco(*files, self.data.group_column)
            if coco is not None and split != "train" and (train := CocoSource.split(self, "train")):
                refuse_other_names(coco, train.categories)
            self._splits[split] = coco
        return self._splits[split]

    @cached_property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of files and folders in the root that are no split's, and of pictures that no annotations name."""
        found = [pair for split in get_args(Split) if (pair := self.find_files(split))]
        files = [(Path(os.path.normpath(path)), Path(os.path.normpath(folder))) for path, folder in found]
        sets = [coco for split in get_args(Split) if (coco := self.split(split))]
        listed = {Path(os.path.normpath(picture.path)) for coco in sets for picture in coco.pictures}
        return unlisted(Path(os.path.normpath(self.data.root)), files, listed)

    def find_files(self, split: Split) -> tuple[Path, Path] | None:
        """Return the annotation file of a split and the folder of its images, or None if there is no such split.

        Both may have any usual name of the split, in upper or lower case.

        Raises:
            FileNotFoundError: a file that the recipe names, or that the set needs, is missing.
            ValueError: there are two files or folders for the split.
        """
        root, data = Path(self.data.root), self.data
        folder = self._present(split, root, "", self.suffix)
        folder = root / data.pictures[split] if split in data.pictures else folder
        usual = self._present(split, root / "annotations", "instances_", f"{self.suffix}.json")
        if not usual.is_file() and (folder / BESIDE).is_file():
            usual = folder / BESIDE
        annotations = root / data.annotations[split] if split in data.annotations else usual
        if split not in data.annotations and split not in self.required and not usual.is_file():
            return None
        for path in (annotations, folder):
            if not path.exists():
                raise FileNotFoundError(self.missing.format(root=root, path=path, split=split))
        return annotations, folder

    def _present(self, split: Split, place: Path, start: str, end: str) -> Path:
        """Return the path of a split in a folder: with the name that is there, or with the usual one."""
        paths = [path for path in place.iterdir() if path.is_dir() != bool(start)] if place.is_dir() else []
        ours = [path.name for path in paths if path.name.startswith(start) and path.name.endswith(end)]
        name = find_only_split(split, [name[len(start) : len(name) - len(end)] for name in ours], place)
        return place / f"{start}{name or split}{end}"


def refuse_other_names(found: CocoSet, categories: Sequence[Category]) -> None:
    """Refuse a split whose file gives a class of training another name: its labels would mean something else.

    Raises:
        ValueError: there is such a class. The message names it.
    """
    names = {category.id: category.name for category in categories}
    for category in found.categories:
        known = names.get(category.id, category.name)
        if known != category.name:
            raise ValueError(
                f"{found.path} calls the class of the id {category.id} {category.name!r}, and the training set calls "
                f"it {known!r}; give each class one id in all files"
            )


def unlisted(root: Path, files: Sequence[tuple[Path, Path]], named_pictures: Collection[Path]) -> Counter[str]:
    """Count what a root holds beside annotation files and pictures.

    Args:
        root: the root.
        files: the annotation files and the folders of pictures that are read.
        named_pictures: the pictures that annotations name.
    """
    annotations, folders = {path for path, _ in files}, {folder for _, folder in files}
    holders = {path.parent for path in annotations} & {root / "annotations", root}
    left_out: Counter[str] = Counter()
    for place in sorted({root, *holders} - folders):
        left_out += count_beside(place, "files that are no split's", annotations)
    used = (*folders, *holders, root / "annotations")
    others = [path.name for path in list_folders(root) if not any(folder.is_relative_to(path) for folder in used)]
    others += [f"annotations/{path.name}" for place in holders - {root} for path in list_folders(place)]
    if others:
        left_out[f"folders that are no split's ({named(others)})"] += len(others)
    for folder in sorted(folders):
        pictures, rest = list_files(folder, {*EXTENSIONS, *(path.suffix.lower() for path in named_pictures)})
        left_out += rest
        left_out["files of other types"] -= sum(path.is_relative_to(folder) for path in annotations)
        unnamed = [path for path in pictures if path not in named_pictures and path not in annotations]
        left_out["pictures that no annotations name"] += len(unnamed)
    return left_out


def read_coco(path: Path, folder: Path, group_column: str | None = None) -> CocoSet:
    """Read an annotation file.

    Single annotations are checked by `eyetoy_image.detection.datasets.findings`.

    Args:
        path: a JSON file with `images`, `annotations` and `categories`; other keys are ignored.
        folder: the folder of the images.
        group_column: the key of an image's entry that tells its group.

    Raises:
        ValueError: the file is not JSON, or not of this format; the message says what is missing.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path} must have a list of {key}, as COCO's format has")
    try:
        categories = sorted(
            (Category(int(entry["id"]), str(entry["name"])) for entry in content["categories"]),
            key=lambda category: category.id,
        )
        # Every image has a list, also one without objects: it teaches a detector where nothing is.
        members: dict[Any, list[Annotation]] = {_identity(entry["id"]): [] for entry in content["images"]}
        strays: list[Annotation] = []
        for place, entry in enumerate(content["annotations"]):
            members.get(entry["image_id"], strays).append(Annotation(place, entry))
        pictures = [_picture(entry, folder, members) for entry in content["images"]]
        if group_column is not None:
            pairs = zip(pictures, content["images"], strict=True)
            pictures = [replace(picture, group=entry.get(group_column)) for picture, entry in pairs]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not of COCO's format: an entry lacks, or has a wrong, {error}") from error
    for name, entries in (("images", pictures), ("categories", categories)):
        if len({entry.id for entry in entries}) < len(entries):
            raise ValueError(f"{path} has two {name} of one id")
    if not categories:
        raise ValueError(f"{path} names no categories")
    if len({type(picture.id) for picture in pictures}) > 1:  # pycocotools would make texts of all, and find none again
        raise ValueError(f"the ids of images in {path} must be all numbers or all texts")
    ordered = sorted(pictures, key=lambda picture: picture.id)
    return CocoSet(path, tuple(categories), tuple(ordered), tuple(strays))


def _identity(value: Any) -> int | str:
    """Return the id of an image: a text as it is, as pycocotools takes it, so that "1" is not the number 1."""
    return value if isinstance(value, str) else int(value)


def _picture(entry: dict[str, Any], folder: Path, members: dict[Any, list[Annotation]]) -> Picture:
    number = _identity(entry["id"])
    path = folder / str(entry["file_name"])
    height, width = int(entry["height"]), int(entry["width"])
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"size of picture {number}: {width} x {height} pixels, where 1 to {MOST_PIXELS:,} can be")
    return Picture(number, path, height, width, tuple(members[number]))
