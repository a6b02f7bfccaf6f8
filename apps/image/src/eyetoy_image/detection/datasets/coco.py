"""Annotation files in COCO's format, and where the pictures lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eyetoy_image.detection.recipe import DetectionData
from eyetoy_image.io.files import MOST_PIXELS
from eyetoy_train import Split
from eyetoy_train.utils.untrusted import read_json

FETCH_COCO = """COCO 2017 is not in {root}: there is no {missing}. Fetch and unpack there
    http://images.cocodataset.org/zips/train2017.zip (19.3 GB)
    http://images.cocodataset.org/zips/val2017.zip (0.8 GB)
    http://images.cocodataset.org/annotations/annotations_trainval2017.zip (0.25 GB)"""


@dataclass(frozen=True)
class Category:
    """A class of objects."""

    id: int
    name: str


@dataclass(frozen=True)
class Annotation:
    """An object as the file has it, which may be wrong."""

    place: int
    """Where it stands in the file's list."""
    content: Mapping[str, Any]

    @property
    def is_crowd(self) -> bool:
        """Whether it stands for a crowd of objects, which is not learned, and whose detections do not count."""
        return bool(self.content.get("iscrowd", 0))


@dataclass(frozen=True)
class Picture:
    """A picture with its objects."""

    id: int
    path: Path
    height: int
    width: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class CocoSet:
    """A split of a set."""

    path: Path
    """The annotation file."""
    categories: tuple[Category, ...]
    """In the order of their numbers."""
    pictures: tuple[Picture, ...]
    """In the order of their numbers."""
    strays: tuple[Annotation, ...]
    """Annotations of pictures that the file does not name."""


def find_files(data: DetectionData, split: Split) -> tuple[Path, Path] | None:
    """Return the annotation file of a split and the folder of its pictures, or None if there is no such split.

    Raises:
        FileNotFoundError: what the recipe names is not there.
    """
    root, year = Path(data.root), "2017" if data.source == "coco2017" else ""
    usual = root / "annotations" / f"instances_{split}{year}.json"
    annotations = root / data.annotations[split] if split in data.annotations else usual
    folder = root / data.pictures.get(split, f"{split}{year}")
    if split not in data.annotations and not usual.is_file() and (split == "test" or (split == "val" and not year)):
        return None
    for path in (annotations, folder):
        if not path.exists():
            raise FileNotFoundError(
                FETCH_COCO.format(root=root, missing=path) if year else f"there is no {path}, the {split} split's"
            )
    return annotations, folder


def read_coco(path: Path, folder: Path) -> CocoSet:
    """Read an annotation file.

    What is wrong with single annotations is found by `eyetoy_image.detection.datasets.findings`.

    Args:
        path: a JSON file with `images`, `annotations` and `categories`; other keys do not matter.
        folder: where the pictures lie.

    Raises:
        ValueError: the file is no JSON, or not of this format; the message says what is missing.
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
        members: dict[Any, list[Annotation]] = {int(entry["id"]): [] for entry in content["images"]}
        strays = _sort_in(content["annotations"], members)
        pictures = [_picture(entry, folder, members) for entry in content["images"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not of COCO's format: an entry lacks, or has a wrong, {error}") from error
    for name, entries in (("images", pictures), ("categories", categories)):
        if len({entry.id for entry in entries}) < len(entries):
            raise ValueError(f"{path} has two {name} of one id")
    if not categories:
        raise ValueError(f"{path} names no categories")
    ordered = sorted(pictures, key=lambda picture: picture.id)
    return CocoSet(path, tuple(categories), tuple(ordered), tuple(strays))


def _sort_in(entries: list[dict[str, Any]], members: dict[Any, list[Annotation]]) -> list[Annotation]:
    """Give annotations to their pictures, and return those that have none."""
    strays: list[Annotation] = []
    for place, entry in enumerate(entries):
        annotation = Annotation(place, entry)
        members.get(entry["image_id"], strays).append(annotation)
    return strays


def _picture(entry: dict[str, Any], folder: Path, members: dict[Any, list[Annotation]]) -> Picture:
    number = int(entry["id"])
    path = folder / str(entry["file_name"])
    height, width = int(entry["height"]), int(entry["width"])
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"size of picture {number}: {width} x {height} pixels, where 1 to {MOST_PIXELS:,} can be")
    return Picture(number, path, height, width, tuple(members[number]))
