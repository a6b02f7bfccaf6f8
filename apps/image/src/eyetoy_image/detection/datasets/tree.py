"""A folder of pictures with a file of annotations for each: its files, and their splits by the names of folders."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from eyetoy_image.detection.datasets.objects import Category, Picture
from eyetoy_image.io.files import EXTENSIONS, open_picture, upright_size
from eyetoy_train import Split
from eyetoy_train.data.splits import SPLIT_NAMES, hinted_splits
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import list_files


@dataclass(frozen=True)
class Listed:
    """A data set as its files are."""

    categories: tuple[Category, ...]
    splits: Mapping[Split, tuple[Picture, ...]]
    """The pictures by split; all of them in `train` where the set `has_splits` not."""
    has_splits: bool
    left_out: Counter[str] = field(default_factory=Counter)
    """Numbers of files that are left out, by the reason."""
    notes: tuple[str, ...] = ()
    """What else there is to say about the set."""


@dataclass(frozen=True)
class Tree:
    """The files below a folder that are pictures, or end in `.xml` or `.txt`."""

    root: Path

    @cached_property
    def _listed(self) -> tuple[list[Path], Counter[str]]:
        return list_files(self.root, (*EXTENSIONS, ".xml", ".txt", ".yaml", ".yml"))

    @property
    def _files(self) -> list[Path]:
        return self._listed[0]

    @property
    def left_out(self) -> Counter[str]:
        """Numbers of files that are neither pictures nor annotations, by the reason."""
        return self._listed[1]

    @cached_property
    def pictures(self) -> list[Path]:
        """The pictures, sorted."""
        return [path for path in self._files if path.suffix.lower() in EXTENSIONS]

    @cached_property
    def by_stem(self) -> dict[str, list[Path]]:
        """The pictures by their names without the suffix."""
        found: dict[str, list[Path]] = {}
        for path in self.pictures:
            found.setdefault(path.stem, []).append(path)
        return found

    def ending_in(self, suffix: str) -> list[Path]:
        """Return the files of a suffix, sorted."""
        return [path for path in self._files if path.suffix.lower() == suffix]

    def name(self, path: Path) -> str:
        """Return the path of a file below the root, the same on every machine."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    def split_of(self, path: Path) -> Split | None:
        """Return the split that a folder above a file is called by, such as `train` of `train/images/1.jpg`."""
        for part in path.relative_to(self.root).parts[:-1]:
            for split, names in SPLIT_NAMES.items():
                if part.lower() in names:
                    return split
        return None


def split_up(tree: Tree, splits: Sequence[Split | None], pictures: Sequence[Picture]) -> Listed:
    """Return pictures by their splits, numbered in their order; of a set with splits, those without one are left out.

    Raises:
        FileNotFoundError: there are splits, but none for training.
        ValueError: folders look like splits and are not called so, such as `train2017` and `val2017`.
    """
    refuse_hidden_splits(tree, splits, pictures)
    places = itertools.count()
    numbered = [
        replace(picture, id=number, annotations=tuple(replace(one, place=next(places)) for one in picture.annotations))
        for number, picture in enumerate(pictures, 1)
    ]
    present = {split for split in splits if split is not None}
    if not present:
        return Listed((), {"train": tuple(numbered)}, has_splits=False)
    if "train" not in present:
        raise FileNotFoundError(
            f"{tree.root} has pictures for {' and '.join(sorted(present))}, and none for training; they should be in "
            "a folder called train"
        )
    parts: dict[Split, list[Picture]] = {split: [] for split in SPLIT_NAMES if split in present}
    for split, picture in zip(splits, numbered, strict=True):
        if split is not None:
            parts[split].append(picture)
    outside = sum(split is None for split in splits)
    left_out = Counter({"pictures outside of the splits": outside}) if outside else Counter[str]()
    return Listed((), {split: tuple(part) for split, part in parts.items()}, has_splits=True, left_out=left_out)


def refuse_hidden_splits(tree: Tree, splits: Sequence[Split | None], pictures: Sequence[Picture]) -> None:
    """Refuse folders that look like splits, and whose pictures would be in others, or in none."""
    outside = [tree.name(picture.path) for split, picture in zip(splits, pictures, strict=True) if split is None]
    hints = {part: hinted_splits(part) for part in {part for name in outside for part in name.split("/")[:-1]}}
    present = {split for split in splits if split is not None}
    hinted = set[Split]().union(*hints.values())
    # Where there is no split at all, `test2017` alone may be all that somebody has.
    if hinted - present if present else "train" in hinted and len(hinted) > 1:
        found = named(sorted(part for part, splits in hints.items() if splits))
        raise ValueError(
            f"{tree.root} has folders that look like splits and are not called so: {found}; splits are called train, "
            "val and test; rename these, or move them away"
        )


def stored_size(path: Path) -> tuple[int, int]:
    """Return the height and width of a picture once it is turned by its EXIF orientation.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with open_picture(path) as image:
            return upright_size(image)
    except Exception as error:  # decoders raise errors of many types for damaged bytes
        raise ValueError(f"cannot read {path} as a picture: {error}") from error
