"""A data set of images and label maps: its files, its classes, and the values of its maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_train import Split
from eyetoy_train.data.held_out import Groups
from eyetoy_train.data.hub import HubSample
from eyetoy_train.data.source import DatasetSource
from eyetoy_train.utils.files import count_beside, is_clutter, list_folders, may_be_file

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class LabelledPicture:
    """An image and the file with the class of its pixels."""

    path: PictureFile
    map: PictureFile


@dataclass(frozen=True)
class SegmentationSet:
    """A data set: its classes, the class of each value of its label maps, and its images by split."""

    classes: tuple[str, ...]
    table: LabelTable
    splits: Mapping[Split, tuple[LabelledPicture, ...]]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Numbers of files and folders that are no samples, by the reason."""
    held_out: tuple[Split, ...] = ()
    """Splits that the data do not have, and whose images are some of the others."""
    groups: Groups = field(default_factory=dict)
    """The group of every image file, if there are groups: those of one group are held out together."""


class SegmentationSource(DatasetSource[Sequence[LabelledPicture]]):
    """Images and label maps that a function lists at first use, without opening them.

    Args:
        root: the folder, or the name of a set on the hub; for messages.
        read: lists the images and label maps.
        write: makes the data set before it is listed, if it is missing.
    """

    def __init__(
        self, root: str, read: Callable[[], SegmentationSet], *, write: Callable[[], None] | None = None
    ) -> None:
        self.root = root
        self._read = read
        self._write = write

    @cached_property
    def set(self) -> SegmentationSet:
        """The images, the classes, and the class of each value of the maps.

        Raises:
            FileNotFoundError: there are no images for training.
        """
        found = self._read()
        if not found.splits.get("train"):
            raise FileNotFoundError(f"{self.root} has no pictures for training")
        return found

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels."""
        return self.set.classes

    @property
    def makes_data(self) -> bool:
        """Whether `prepare` makes the data set where it is missing."""
        return self._write is not None

    def prepare(self) -> None:
        """Make the data set if it is missing, and list it."""
        if self._write is not None:
            self._write()
        _ = self.set

    @property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of files and folders that are no samples, by the reason."""
        return self.set.left_out

    @property
    def places(self) -> Mapping[Split, str]:
        """Which splits are held out."""
        return dict.fromkeys(self.set.held_out, "held out")

    def group_of(self, sample: Any) -> str | None:
        """Return the group of an image."""
        return sample.group if isinstance(sample, HubSample) else self.set.groups.get(sample)

    def split(self, split: Split) -> Sequence[LabelledPicture] | None:
        """Return the images of a split."""
        return self.set.splits.get(split)


def with_classes(
    data: SegmentationData,
    names: tuple[str, ...],
    splits: Mapping[Split, tuple[LabelledPicture, ...]],
    left_out: Mapping[str, int],
) -> SegmentationSet:
    """Return a set whose classes are the recipe's values, or those that are not ignored, in order, one for each name.

    Raises:
        ValueError: there are no classes, or too many.
    """
    # For example with 0 ignored and the names (cat, dog), the values 1 and 2 are the labels 0 and 1.
    # The default of `ignored` is 255, which `values` may name as a class.
    ignored = [value for value in data.ignored if value not in (data.values or ())]
    values = data.values or [value for value in range(256) if value not in ignored]
    if data.values is not None:
        classes = names or tuple(map(str, values))
        if len(classes) != len(values):
            raise ValueError(
                f"data.values must name a value for each of the {len(classes)} classes of {data.root}; got {values}"
            )
    else:
        classes = names or _numbered(splits.get("train", ()), values)
    if not 1 <= len(classes) <= min(MOST_CLASSES, len(values)):
        raise ValueError(f"{data.root} must have 1 to {min(MOST_CLASSES, len(values))} classes; got {len(classes)}")
    return SegmentationSet(classes, label_table(values[: len(classes)], ignored), splits, left_out)


def _numbered(pictures: Sequence[LabelledPicture], values: Sequence[int]) -> tuple[str, ...]:
    """Name classes by their values, up to the largest one on readable training maps."""
    largest = -1
    for picture in pictures:
        try:
            found = read_values(picture.map)
        except BadLabelMapError:
            continue  # `find_bad` reports it with all others
        counted = [int(value) for value in set(found.flatten().tolist()) if value in values]
        largest = max([largest, *counted])
    return tuple(str(value) for value in values if value <= largest)


def pair_pictures(pictures: Path, maps: Path, left_out: Counter[str]) -> tuple[LabelledPicture, ...]:
    """Pair images with label maps by name; one without the other is listed too, and reported by `find_bad`.

    Args:
        pictures: the folder of the images.
        maps: the folder of the label maps.
        left_out: takes the numbers of other files and of folders, by the reason.

    Raises:
        ValueError: two images, or two label maps, have one name.
    """
    if not pictures.is_dir():
        return ()
    paths, labelled = _by_name(pictures, EXTENSIONS, left_out), _by_name(maps, (".png",), left_out)
    strays = {name: pictures / name for name in labelled if name not in paths}
    return tuple(
        LabelledPicture(path, labelled.get(name, maps / f"{name}.png")) for name, path in (paths | strays).items()
    )


def _by_name(folder: Path, extensions: Collection[str], left_out: Counter[str]) -> dict[str, Path]:
    """Return the files of a folder by their names without suffix, sorted."""
    if not folder.is_dir():
        return {}
    files = [path for path in folder.iterdir() if path.suffix.lower() in extensions and may_be_file(path)]
    found: dict[str, Path] = {}
    for path in sorted(path for path in files if not is_clutter(path.name)):
        other = found.setdefault(path.stem, path)
        if other != path:
            raise ValueError(f"{folder} has {other.name} and {path.name}; a picture and its label map share one name")
    left_out += count_beside(folder, "files of other types", set(found.values()))
    left_out["folders in folders of pictures"] += len(list_folders(folder))
    return found


def label_table(values: Sequence[int] | Mapping[int, str] | range, ignored: Sequence[int] = ()) -> LabelTable:
    """Return a table of values in the order of their classes."""
    return LabelTable({value: label for label, value in enumerate(values)} | dict.fromkeys(ignored, IGNORED))


def without_empty(
    splits: Mapping[Split, tuple[LabelledPicture, ...]],
) -> dict[Split, tuple[LabelledPicture, ...]]:
    """Return the splits that have images."""
    return {split: pictures for split, pictures in splits.items() if pictures}
