"""Data sets of images, sounds or clips on Hugging Face's hub, or in a folder that `datasets` reads; whole or streamed.

Files stay encoded; the caller decodes them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import hold_out_groups
from eyetoy_train.data.source import ClassificationSource, DatasetOptions
from eyetoy_train.data.splits import HELD_OUT, SPLIT_NAMES, find_split
from eyetoy_train.data.streaming import HubStream
from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.types import Batch, Split
from eyetoy_train.utils.console import named

ColumnType = Literal["Image", "Audio", "Video"]
"""Types of file columns in `datasets`."""

NO_LABEL = (None, "", -1)
"""Values of a column of classes, as numbers or as texts, that stand for no class."""

PROTOCOLS = frozenset(["hf", "https", "http", "file", "zip", "tar", "gzip", "s3", "gs"])
"""Protocols allowed in the addresses of a set's files; others of fsspec log in to machines or make files up."""


def is_stored(stored: dict[str, Any] | None) -> bool:
    """Whether a row has a file: it may have nothing, or a file without bytes and without a path."""
    return stored is not None and not (stored["bytes"] is None and not stored["path"])


def stored_content(stored: Any, name: str) -> bytes | Path:
    """Return the bytes of an undecoded file of `datasets`, or the path of the local file that holds them.

    Args:
        stored: its `bytes` or its `path`.
        name: of its row, for messages.

    Raises:
        UnreadableFileError: the row has no file.
        ValueError: the address of the file has a protocol other than `PROTOCOLS`.
    """
    if not is_stored(stored):
        raise UnreadableFileError(f"{name} has no file")
    content: bytes | None = stored["bytes"]
    path = stored["path"]
    if content is None and "://" in path:  # of a stream, on the hub or in an archive
        # Addresses are data of the set and so not trusted. They may be chained, as in `zip://a.png::hf://...`.
        for part in path.split("::"):
            protocol, separator, _ = part.partition("://")
            if separator and protocol not in PROTOCOLS:
                known = ", ".join(sorted(PROTOCOLS))
                raise ValueError(f"the set names a file as {path!r}; files are read from {known}, not {protocol}")
        with importlib.import_module("fsspec").open(path, "rb") as file:
            content = file.read()
    return Path(path) if content is None else content


@dataclass(frozen=True)
class HubParts:
    """The splits of a set of the hub."""

    rows: dict[Split, Any]
    """The rows of each."""
    places: dict[Split, str]
    """Their names on the hub, or `held out`."""
    left_out: dict[str, int]
    """Numbers of splits that are not used, by the reason."""
    groups: dict[Split, list[str]] = field(default_factory=dict)
    """The group of every row, if there are groups."""

    def sample(self, split: Split, index: int, column: str) -> HubSample:
        """Return the file in a row and column of a split."""
        return HubSample(self.rows[split], index, column, self.groups[split][index] if self.groups else None)


@dataclass(frozen=True)
class HubSample:
    """A file of a set that is not streamed."""

    rows: Any
    index: int
    column: str
    group: str | None = None
    """Its group, if there are groups."""

    @property
    def stored(self) -> dict[str, Any]:
        """The file, encoded; `stored_content` takes it."""
        found: dict[str, Any] = self.rows[self.index][self.column]
        return found

    @property
    def place(self) -> str:
        """Its row, for a message: `3 of birds`."""
        return f"{self.index} of {self.rows.info.dataset_name or 'the set'}"

    def __str__(self) -> str:
        """Return a name for messages: the original file if it is known, or the column and row."""
        return (self.stored or {}).get("path") or f"{self.column} {self.place}"


@dataclass(frozen=True)
class HubSet(ClassificationSource):
    """A data set of the hub for classification.

    The classes are the names of its column of the type `ClassLabel`; or, in a set that is not streamed, the texts of
    the column `label_column`, in sorted order.

    Args:
        name: name on the hub, or a folder.
        column_type: type of the column with the files.
        streaming: read it as a stream, without a copy on this machine.
        splits: names of its splits, where they are not the usual ones; an empty name for none.
        seed: decides which samples are held out for validation where there is no such split.
        label_column: the column with the classes, where it is not the only one of the type `ClassLabel`.
        config: its configuration, if it has several, such as languages or versions.
        revision: a branch, tag or commit on the hub.
        grouping: which samples are held out together.

    Raises:
        ValueError: the set cannot be read, does not have one column of files and one of classes, or lacks a split; or a
            sample has no group, or there are too few groups.
    """

    name: str
    column_type: ColumnType
    streaming: bool = False
    splits: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    label_column: str | None = None
    config: str | None = None
    revision: str | None = None
    grouping: Grouping | None = None

    @classmethod
    def of_options(cls, data: DatasetOptions, column_type: ColumnType, seed: int) -> Self:
        """Return the set that a recipe's `data` describes."""
        given = (data.streaming, data.splits, seed, data.label_column, data.config, data.revision, Grouping.of(data))
        return cls(data.root, column_type, *given)

    def prepare(self) -> None:
        """Download the set, or open it if it is streamed."""
        _ = self.parts

    @property
    def parts(self) -> dict[Split, Any]:
        """The splits, with encoded files."""
        return self._loaded.rows

    def group_of(self, sample: Any) -> str | None:
        """Return the group of a row."""
        found: str | None = sample.group
        return found

    @property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of splits that are not used, by the reason."""
        return self._loaded.left_out

    @property
    def places(self) -> Mapping[Split, str]:
        """Where the samples of a split were found, if it was held out."""
        return self._loaded.places

    @cached_property
    def _loaded(self) -> HubParts:
        loaded = load_splits(
            self.name,
            streaming=self.streaming,
            splits=self.splits,
            seed=self.seed,
            config=self.config,
            revision=self.revision,
            grouping=self.grouping,
            columns=self._columns,
        )
        parts, left_out = dict(loaded.rows), dict(loaded.left_out)
        file, label = self._columns(parts["train"])
        for split, part in loaded.rows.items():
            # A stream would have to be read to its end: the first row of its test tells, and the others as they come.
            if self.streaming:
                values = [row[label] for row in part.select_columns([label]).take(1)] if split == "test" else []
            else:
                values = part[label]
            without = sum(value in NO_LABEL for value in values)
            if split == "test" and without and without == len(values):  # benchmarks keep the labels of a test secret
                del parts[split]
                left_out["split without labels (test)"] = 1
            elif without:
                raise ValueError(
                    f"{without:,} of the {len(part):,} {split} rows of {self.name} have no label in the column "
                    f"{label!r}; fill them in, or take them out"
                )
        rows = {split: undecoded(part, [file], self.column_type, label) for split, part in parts.items()}
        return HubParts(rows, loaded.places, left_out, loaded.groups)

    @cached_property
    def columns(self) -> tuple[str, str]:
        """Names of the columns with files and with classes."""
        return self._columns(self.parts["train"])

    def _columns(self, rows: Any) -> tuple[str, str]:
        if rows.features is None:
            raise ValueError(f"{self.name} does not declare the types of its columns")
        label = self.label_column or self._only(rows, "ClassLabel", ", or label_column name one of text")
        feature = rows.features.get(label)
        is_text = getattr(feature, "dtype", None) in ("string", "large_string")  # the latter of CSV files
        # Classes as text must all be known before the first sample; a stream would have to be read to its end.
        if not (_type(feature) == "ClassLabel" or (is_text and not self.streaming)):
            right = "ClassLabel" if self.streaming else "ClassLabel or text"
            raise ValueError(f"the column {label!r} of {self.name} should be {right}; it is {feature}")
        return self._only(rows, self.column_type), label

    def _only(self, rows: Any, kind: str, hint: str = "") -> str:
        columns = columns_of_type(rows, kind)
        if len(columns) != 1:
            features = dict(rows.features)
            raise ValueError(f"{self.name} should have one column of the type {kind}{hint}; it has {features}")
        return columns[0]

    @cached_property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels."""
        label = self.columns[1]
        feature = self.parts["train"].features[label]
        if _type(feature) == "ClassLabel":
            return list(feature.names)
        # Of all splits: a class may be in the test only.
        return sorted({name for part in self.parts.values() for name in part.unique(label)})

    def split(self, split: Split) -> list[tuple[HubSample, int]] | HubStream | None:
        """Return encoded files with their labels; a stream of them if the set is streamed."""
        rows, (file, label) = self.parts.get(split), self.columns
        if rows is None:
            return None
        numbers = self._numbers(split)
        if self.streaming:
            return HubStream(rows, partial(_labelled_row, file, label, numbers))
        labels = rows[label]
        self._refuse_classes(split, {*labels} - numbers.keys())
        return [(self._loaded.sample(split, i, file), numbers[y]) for i, y in enumerate(labels)]

    def _numbers(self, split: Split) -> Mapping[Any, int]:
        """Return the number of the class that each label of a split stands for.

        Raises:
            ValueError: training has no class of that name.
        """
        feature = self.parts[split].features[self.columns[1]]
        classes: dict[Any, int] = {name: number for number, name in enumerate(self.classes)}
        if _type(feature) != "ClassLabel":  # texts, or numbers of the classes of training
            return classes | {number: number for number in classes.values()}
        # Its numbers are the places of the names, of which splits that were saved one by one may have others.
        self._refuse_classes(split, {*feature.names} - classes.keys())
        return {number: classes[name] for number, name in enumerate(feature.names)}

    def _refuse_classes(self, split: Split, unknown: Collection[Any]) -> None:
        if unknown:
            names = named(sorted(map(str, unknown)))
            raise ValueError(f"the {split} split of {self.name} has the classes {names}, and training has not")


def load_splits(
    name: str,
    *,
    streaming: bool = False,
    splits: Mapping[str, str] | None = None,
    seed: int = 0,
    config: str | None = None,
    revision: str | None = None,
    grouping: Grouping | None = None,
    columns: Callable[[Any], Sequence[str]] = lambda rows: (),
) -> HubParts:
    """Return the splits of a set of the hub; see `HubSet` for arguments and errors.

    `columns` returns the names of the column with the files, and perhaps of that with the classes; groups take them.
    """
    if grouping and streaming:
        raise ValueError(f"{grouping.option} is for sets that are not streamed; leave it out")
    datasets = importlib.import_module("datasets")  # slow to import, and only needed here
    is_saved = _is_saved_to_disk(Path(name))
    if is_saved and (config or revision):
        raise ValueError(f"data.config and data.revision are for sets of the hub, and {name} was saved to disk")
    try:
        found = (
            _saved_to_disk(datasets, name, streaming=streaming)
            if is_saved
            else datasets.load_dataset(name, config, revision=revision, streaming=streaming)
        )
    except datasets.exceptions.DatasetGenerationError as error:  # its own message does not name the reason
        raise ValueError(f"cannot read {name}: {error.__cause__ or error}") from error
    names = _split_names(name, list(found), splits or {})
    parts: dict[Split, Any] = {split: found[part] for split, part in names.items()}
    places = dict(names)
    unused = [part for part in found if part not in names.values()]
    left_out = {f"splits of other names ({named(unused)})": len(unused)} if unused else {}
    groups: dict[Split, list[str]] = {}
    if grouping:
        file, *label = columns(parts["train"])
        groups = {split: _groups(part, file, grouping, f"{name} ({split})") for split, part in parts.items()}
    if "val" not in parts:
        if streaming:
            raise ValueError(f"{name} has no validation split to stream; name one by data.splits.val")
        rows = parts["train"]
        if groups:
            labels = [(one,) for one in rows[label[0]]] if label else [()] * len(rows)
            held = hold_out_groups(range(len(rows)), groups["train"], labels, ("val",), seed)
            groups |= {split: [groups["train"][place] for place in places] for split, places in held.items()}
            parts |= {split: rows.select(places) for split, places in held.items()}
        else:
            halves = rows.train_test_split(HELD_OUT["val"], seed=seed)
            parts |= {"train": halves["train"], "val": halves["test"]}
        places["val"] = "held out"
    return HubParts(parts, places, left_out, groups)


def _is_saved_to_disk(folder: Path) -> bool:
    is_one = all((folder / name).is_file() for name in ("state.json", "dataset_info.json"))
    return is_one or (folder / "dataset_dict.json").is_file()


def _saved_to_disk(datasets: Any, folder: str, *, streaming: bool) -> Any:
    """Return what `save_to_disk` wrote; `load_dataset` would also read what `map` and `filter` keep beside it."""
    found = datasets.load_from_disk(folder)
    splits = found if isinstance(found, dict) else {"train": found}
    if not streaming:
        return splits
    return {name: rows.to_iterable_dataset(num_shards=max(len(rows.cache_files), 1)) for name, rows in splits.items()}


def _groups(rows: Any, file: str, grouping: Grouping, place: str) -> list[str]:
    """Return the group of every row: by a column, or by the names of the files."""
    if grouping.column is not None:
        grouping.check_column(rows.features, place)
        return grouping.of_values({f"row {number}": value for number, value in enumerate(rows[grouping.column])}, place)
    # The names alone: the files themselves would fill the memory.
    undecoded_file = rows.select_columns([file]).cast_column(file, type(rows.features[file])(decode=False))
    names = undecoded_file.flatten()[f"{file}.path"]
    nameless = [f"row {number}" for number, name in enumerate(names) if not name]
    if nameless:
        raise ValueError(
            f"data.group_pattern is searched for in names of files, and {len(nameless):,} of {len(names):,} files of "
            f"{place} have none: {named(nameless, 3)}; give data.group_column"
        )
    return grouping.of_paths(names, Path(place))


def _split_names(name: str, found: Sequence[str], splits: Mapping[str, str]) -> dict[Split, str]:
    """Return the set's name of each split. A split used for validation is not used for the test as well."""
    names = {split: splits.get(split, find_split(split, found)) for split in SPLIT_NAMES}
    wrong = [part for part in names.values() if part and part not in found]
    if wrong or not names["train"] or not splits.keys() <= names.keys():
        raise ValueError(
            f"{name} has the splits {', '.join(found)}; data.splits must name those for train, val and test, "
            f"such as {{val: test}}; got {splits}"
        )
    if names["test"] == names["val"]:
        names["test"] = None
    return {split: part for split, part in names.items() if part}


def columns_of_type(rows: Any, kind: str) -> list[str]:
    """Return the names of a set's columns of a type of `datasets`, such as `Image`."""
    return [column for column, feature in rows.features.items() if _type(feature) == kind]


def undecoded(rows: Any, files: Sequence[str], kind: ColumnType, *others: str) -> Any:
    """Return rows with the columns `files`, encoded, and `others` only."""
    # decode=False: `datasets` would decode each file as a row is read, with other decoders and without our limits.
    feature = getattr(importlib.import_module("datasets"), kind)(decode=False)
    rows = rows.select_columns([*files, *others])
    for column in files:
        rows = rows.cast_column(column, feature)
    return rows


def _labelled_row(
    file: str, label: str, numbers: Mapping[Any, int], row: dict[str, Any]
) -> Batch:  # not a lambda: workers unpickle it
    if row[label] in NO_LABEL:
        raise UnreadableFileError(f"a row of the stream has no label in the column {label!r}; it has {row[label]!r}")
    return {"source": row[file], "label": numbers[row[label]]}


def _type(feature: Any) -> str:
    return type(feature).__name__
