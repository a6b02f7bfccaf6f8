"""Images in WebDataset's tar files."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from eyetoy_image.classification.recipe import ImageData
from eyetoy_image.io.background import Background
from eyetoy_image.io.files import EXTENSIONS, read_image
from eyetoy_train import Batch, Split, TarStream
from eyetoy_train.data.source import ClassificationSource
from eyetoy_train.data.splits import SPLIT_NAMES
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import count_beside, is_clutter, list_folders, may_be_file
from eyetoy_train.utils.untrusted import read_class_names

CLASSES = "classes.txt"
REQUIRED: tuple[Split, ...] = ("train", "val")
WHOLE_NUMBER = re.compile(rb"\s*([+-]?[0-9]+)\s*")
ARCHIVE = r"\.(tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$"


@dataclass(frozen=True)
class TarSet(ClassificationSource):
    """Tar files with train, val or test as a word in their names, and a `classes.txt` with a class in each line.

    A sample is an image, such as `0001.jpg`, and `0001.cls` with the number of its class, from 0.
    """

    root: Path

    def prepare(self) -> None:
        """Check that the files exist.

        Raises:
            FileNotFoundError: files for training or validation are missing.
            ValueError: a file's name has the names of two splits.
        """
        missing = [split for split in REQUIRED if not self._paths(split)]
        if missing:
            raise FileNotFoundError(
                f"{self.root} should hold tar files for training and validation, such as {missing[0]}-000.tar"
            )
        times = Counter(path for split in get_args(Split) for path in self._paths(split))
        doubled = sorted(path for path, count in times.items() if count > 1)
        if doubled:
            raise ValueError(f"the name of {doubled[0]} has the names of two splits; it should have one")
        _ = self.classes

    @cached_property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        path = self.root / CLASSES
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no {path}; it should name the classes, one in each line, from class 0 on"
            )
        names = read_class_names(path)
        if not names:
            raise ValueError(f"{path} should name the classes, one in each line; it is empty")
        return names

    @property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of files and folders that are no tar files of a split, by the reason."""
        used = {self.root / CLASSES, *(path for split in get_args(Split) for path in self._paths(split))}
        left_out = count_beside(self.root, "files that are no split's tar file", used)
        folders = [path.name for path in list_folders(self.root) if path not in used]
        return left_out | ({f"folders ({named(folders)})": len(folders)} if folders else {})

    def split(self, split: Split) -> TarStream | None:
        """Return a split as a stream."""
        paths = self._paths(split)
        return TarStream(paths, self._labelled) if paths else None

    def _paths(self, split: Split) -> list[Path]:
        """Return the tar files with the name of a split as a word in theirs."""
        # For example set-train-000.tar and train.tar.gz, but not trains.tar or constrain.tar.
        name = re.compile(rf"(^|[^a-z])({'|'.join(SPLIT_NAMES[split])})([^a-z].*)?{ARCHIVE}", re.IGNORECASE)
        found = [path for path in self.root.glob("*") if name.search(path.name) and not is_clutter(path.name)]
        return sorted(path for path in found if may_be_file(path))

    def _labelled(self, raw: dict[str, Any]) -> Batch:
        number = WHOLE_NUMBER.fullmatch(raw.get("cls", b""))  # `int` alone takes 1_0 for 10
        if number is None:
            raise ValueError(
                f"{raw['__key__']} should come with a .cls file that holds a whole number: one after the other in the "
                "tar file, of one name up to its first dot"
            )
        label = int(number[1])
        pictures = _pictures(raw)
        if len(pictures) != 1:
            raise ValueError(
                f"{raw['__key__']} should hold one picture ({', '.join(EXTENSIONS)}); it has {', '.join(raw)}"
            )
        if not 0 <= label < len(self.classes):
            raise ValueError(f"{raw['__key__']} has class {label}, but {CLASSES} names {len(self.classes)} classes")
        return {"source": raw, "label": label}


def read_tarred(raw: dict[str, Any], *, grayscale: bool, background: Background = "white") -> Tensor:
    """Return the uint8 pixels of a raw sample, which has one picture; see `read_image` for errors."""
    (extension,) = _pictures(raw)
    name = f"{raw['__key__']}.{extension}"
    return read_image(io.BytesIO(raw[extension]), grayscale=grayscale, background=background, name=name)


def _pictures(raw: dict[str, Any]) -> list[str]:
    """Return the extensions of a raw sample's pictures."""
    return [key for key in raw if f".{key}" in EXTENSIONS]


def open_webdataset(data: ImageData, seed: int) -> TarSet:
    """Return the tar files in `data.root`."""
    return TarSet(data.path)
