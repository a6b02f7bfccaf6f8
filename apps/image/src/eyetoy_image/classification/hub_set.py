"""Any set of pictures on Hugging Face's hub, or in a folder that `datasets` reads; whole or streamed."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from eyetoy_image.files import read_image
from eyetoy_train import Batch, HubStream, Split
from eyetoy_train.class_folder import HELD_OUT

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


@dataclass(frozen=True)
class HubPicture:
    """A picture as the hub stores it, encoded, and what to call it."""

    rows: Any
    index: int
    column: str

    def read(self, *, grayscale: bool) -> Tensor:
        """Return uint8 pixels; errors as in `read_image`."""
        stored = self.rows[self.index][self.column]
        return read_stored(stored, f"picture {self.index} of {self.rows.info.dataset_name or 'the set'}", grayscale)


def read_stored(stored: dict[str, Any], name: str, grayscale: bool) -> Tensor:
    """Return the uint8 pixels of an undecoded picture of `datasets`: its bytes, or the path where they lie."""
    content, path = stored["bytes"], stored["path"]
    if content is None and "://" in path:  # of a stream, on the hub or in an archive
        with importlib.import_module("fsspec").open(path, "rb") as file:
            content = file.read()
    source = Path(path) if content is None else io.BytesIO(content)
    return read_image(source, grayscale=grayscale, name=path or name)


@dataclass(frozen=True)
class HubSet:
    """A set by its name.

    Args:
        name: on the hub, or a folder.
        streaming: read it as a stream, without a copy on this machine.
        splits: names of its splits, where they are not the usual ones; an empty name for none.
        seed: decides what is held out for validation where there is no such split.

    Raises:
        ValueError: it has not one column of pictures and one of classes, or no split that is needed.
    """

    name: str
    streaming: bool = False
    splits: dict[str, str] = field(default_factory=dict)
    seed: int = 0

    def prepare(self) -> None:
        """Fetch the set, or open it if it is to be streamed."""
        _ = self.parts

    @cached_property
    def parts(self) -> dict[Split, Any]:
        """The splits, with pictures as they are stored."""
        datasets = importlib.import_module("datasets")  # slow to import, and only needed here
        found = datasets.load_dataset(self.name, streaming=self.streaming)
        parts: dict[Split, Any] = {split: found[name] for split, name in self._names(list(found)).items()}
        if "val" not in parts:
            if self.streaming:
                raise ValueError(f"{self.name} has no validation split to stream; name one by data.splits.val")
            halves = parts["train"].train_test_split(HELD_OUT["val"], seed=self.seed)
            parts |= {"train": halves["train"], "val": halves["test"]}
        image, label = _columns(parts["train"], self.name)
        if "test" in parts and next(iter(parts["test"].select_columns([label])))[label] < 0:
            del parts["test"]  # its labels are kept secret
        return {split: part.cast_column(image, datasets.Image(decode=False)) for split, part in parts.items()}

    def _names(self, found: Sequence[str]) -> dict[Split, str]:
        """Return which of the set's splits is which. What validation takes is not left for the test."""
        names = {split: self.splits.get(split, _first(usual, found)) for split, usual in SPLIT_NAMES.items()}
        wrong = [name for name in names.values() if name and name not in found]
        if wrong or not names["train"] or not self.splits.keys() <= names.keys():
            raise ValueError(
                f"{self.name} has the splits {', '.join(found)}; data.splits must name those for train, val and test, "
                f"such as {{val: test}}; got {self.splits}"
            )
        if names["test"] == names["val"]:
            names["test"] = None
        return {split: name for split, name in names.items() if name}

    @cached_property
    def columns(self) -> tuple[str, str]:
        """Names of the columns with pictures and with classes."""
        return _columns(self.parts["train"], self.name)

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return list(self.parts["train"].features[self.columns[1]].names)

    def samples(self, split: Split) -> list[tuple[HubPicture, int]] | None:
        """Return pictures, encoded, and labels."""
        rows, (image, label) = self.parts.get(split), self.columns
        return None if rows is None else [(HubPicture(rows, i, image), y) for i, y in enumerate(rows[label])]

    def stream(self, split: Split, decode: Callable[[Any, int], Batch]) -> HubStream | None:
        """Return a split as a stream; `decode` takes an undecoded picture and a label."""
        rows = self.parts.get(split)
        return None if rows is None else HubStream(rows, partial(_decode_row, decode, *self.columns))


def _decode_row(decode: Callable[[Any, int], Batch], image: str, label: str, row: dict[str, Any]) -> Batch:
    return decode(row[image], row[label])


def _first(names: Sequence[str], found: Any) -> str | None:
    return next((name for name in names if name in found), None)


def _columns(rows: Any, name: str) -> tuple[str, str]:
    return _column(rows, "Image", name), _column(rows, "ClassLabel", name)


def _column(rows: Any, kind: str, name: str) -> str:
    if rows.features is None:
        raise ValueError(f"{name} does not say what its columns are")
    columns: list[str] = [column for column, feature in rows.features.items() if type(feature).__name__ == kind]
    if len(columns) != 1:
        raise ValueError(f"{name} should have one column of the type {kind}; it has {dict(rows.features)}")
    return columns[0]
