"""Pictures with objects: what the readers of all formats return, in the terms of COCO's format."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eyetoy_train import Split
from eyetoy_train.data.source import DatasetSource


@dataclass(frozen=True)
class Category:
    """A class of objects."""

    id: int
    name: str


@dataclass(frozen=True)
class Annotation:
    """An object as it is in the file, possibly faulty."""

    place: int
    """Position in the file's list, or among all objects of a set with a file for each image."""
    content: Mapping[str, Any]
    """An entry of COCO's format; in other formats made of what the file says."""
    fault: str = ""
    """Why no box could be made of what the file says."""

    @property
    def is_crowd(self) -> bool:
        """Whether it is a crowd of objects, which is not learned, and whose detections do not count."""
        return bool(self.content.get("iscrowd", 0))


@dataclass(frozen=True)
class Picture:
    """An image with its objects."""

    id: int | str
    """A number or a text, as it is in the file; in formats without one the place in the set."""
    path: Path
    height: int
    width: int
    annotations: tuple[Annotation, ...]
    fault: str = ""
    """Why its file of annotations cannot be read."""
    group: str | int | None = None
    """What its entry has for the recipe's `data.group_column`, in COCO's format."""


@dataclass(frozen=True)
class CocoSet:
    """A split of a data set."""

    path: Path
    """The annotation file, or the folder of annotation files."""
    categories: tuple[Category, ...]
    """In the order of their ids."""
    pictures: tuple[Picture, ...]
    """In the order of their ids."""
    strays: tuple[Annotation, ...] = ()
    """Annotations of images that are not in the file."""
    split: Split | None = None
    """Its split, where its file or folder has those of others too."""

    @property
    def num_annotations(self) -> int:
        """The number of objects, also of faulty ones and of crowds."""
        return sum(len(picture.annotations) for picture in self.pictures) + len(self.strays)


class ObjectSource(DatasetSource[CocoSet]):
    """Images with objects. The classes are those of the training set."""

    @abstractmethod
    def split(self, split: Split) -> CocoSet | None:
        """Return a split as it is in its files."""

    @property
    @abstractmethod
    def root(self) -> str:
        """The folder of the data."""

    @cached_property
    def training(self) -> CocoSet:
        """The training set.

        Raises:
            FileNotFoundError: there is none.
        """
        found = self.split("train")
        if found is None:
            raise FileNotFoundError(f"{self.root} has no training split")
        return found

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes: those of the training set."""
        return self.training.categories

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels, which start at 1."""
        return [category.name for category in self.categories]

    @cached_property
    def has_masks(self) -> bool:
        """Whether some annotation of the training set has a mask."""
        # An empty list counts as none: tools write it into sets of boxes.
        return any(one.content.get("segmentation") for picture in self.training.pictures for one in picture.annotations)

    @property
    def has_boxes_alone(self) -> bool:
        """Whether the training set has annotations, and none of them a mask."""
        return self.training.num_annotations > 0 and not self.has_masks
