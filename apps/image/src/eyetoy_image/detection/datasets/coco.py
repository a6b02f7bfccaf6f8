"""Read annotation files in COCO's format, and find the folders of their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eyetoy_image.detection.datasets.objects import Annotation, Category, CocoSet, ObjectSource, Picture
from eyetoy_image.detection.recipe import DetectionData
from eyetoy_image.io.files import MOST_PIXELS
from eyetoy_train import Split
from eyetoy_train.data.folder import write_once
from eyetoy_train.utils.untrusted import read_json


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
        missing: str = "there is no {path}, the {split} split's",
        write: Callable[[Path], None] | None = None,
    ) -> None:
        self._splits: dict[Split, CocoSet | None] = {}
        self.data, self.suffix, self.required = data, suffix, splits
        self.missing, self.write = missing, write

    @property
    def root(self) -> str:
        """The folder of the data."""
        return self.data.root

    def prepare(self) -> None:
        """Make the data set if it is missing."""
        if self.write is not None:
            write_once(Path(self.data.root), self.write)

    def split(self, split: Split) -> CocoSet | None:
        """Return a split as it is in its file."""
        if split not in self._splits:  # read once: COCO's training file has 450 MB
            files = self.find_files(split)
            self._splits[split] = None if files is None else read_coco(*files)
        return self._splits[split]

    def find_files(self, split: Split) -> tuple[Path, Path] | None:
        """Return the annotation file of a split and the folder of its images, or None if there is no such split.

        Raises:
            FileNotFoundError: a file that the recipe names, or that the set needs, is missing.
        """
        root, data = Path(self.data.root), self.data
        usual = root / "annotations" / f"instances_{split}{self.suffix}.json"
        annotations = root / data.annotations[split] if split in data.annotations else usual
        folder = root / data.pictures.get(split, f"{split}{self.suffix}")
        if split not in data.annotations and split not in self.required and not usual.is_file():
            return None
        for path in (annotations, folder):
            if not path.exists():
                raise FileNotFoundError(self.missing.format(root=root, path=path, split=split))
        return annotations, folder


def read_coco(path: Path, folder: Path) -> CocoSet:
    """Read an annotation file.

    Single annotations are checked by `eyetoy_image.detection.datasets.findings`.

    Args:
        path: a JSON file with `images`, `annotations` and `categories`; other keys are ignored.
        folder: the folder of the images.

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
