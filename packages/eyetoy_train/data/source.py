"""Data sets as sources of classes and samples: the one way to add a data set, the same in every app.

To add one, write a file in the app's `datasets/` with a function `open_NAME(data, seed)` that returns a
`DatasetSource`, and add a line to the app's registry. The registry gives `data.source` its choices.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

from eyetoy_train.concerns import ANYWHERE, DATA, READING, TRAINING, Concerns
from eyetoy_train.data.folder import ClassFolder, read_class_folder, write_once
from eyetoy_train.data.groups import Grouping, GroupOptions
from eyetoy_train.data.held_out import Fold
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.types import Batch, SampleStream, Split

LabelledSamples = Sequence[tuple[Any, Any]]
"""Pairs of a source, which a task's `load_sample` takes, and a label: the number of a class, or several numbers."""

RefuseOrSkip = Literal["refuse", "skip"]

S = TypeVar("S", covariant=True)
D = TypeVar("D")


class FolderData(Protocol):
    """The part of a recipe's `data` that a classification task reads; see `DatasetOptions`."""

    root: str
    unreadable: RefuseOrSkip
    cache: bool


def files_of(samples: Mapping[Split, LabelledSamples]) -> dict[Split, list[tuple[Path, Any]]]:
    """Return the samples that are files, with their labels, by split."""
    return {split: [pair for pair in found if isinstance(pair[0], Path)] for split, found in samples.items()}


class DatasetSource(ABC, Generic[S]):
    """The classes and the samples of a data set, by split.

    `S` is the type of a split: in classification a list of labelled sources, or a stream of them.
    """

    @property
    @abstractmethod
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels. Asked for after `prepare`."""

    def prepare(self) -> None:
        """Write or fetch the data if they are missing; check that all of it is there."""

    @property
    def makes_data(self) -> bool:
        """Whether `prepare` makes data of its own, where there are none."""
        return False

    @abstractmethod
    def split(self, split: Split) -> S | None:
        """Return the samples of a split, or None if the data have no such split."""

    @property
    def places(self) -> Mapping[Split, str]:
        """Where the samples of a split were found, where that is worth a word: a folder, or `held out`."""
        return {}

    def group_of(self, sample: Any) -> str | None:
        """Return the group of a sample, whose samples are held out together; None without groups.

        Args:
            sample: the source of one, such as a path.
        """
        return None

    @property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of files and others that are no samples, by the reason. Asked for after `prepare`."""
        return {}

    @property
    def notes(self) -> Sequence[str]:
        """What else there is to say of the data at the start of a run, such as their format."""
        return ()

    def inventory(
        self,
        sizes: Mapping[Split, int | str],
        labels: Mapping[Split, Collection[int]] | None = None,
        left_out: Mapping[str, int] | None = None,
        samples: Mapping[Split, LabelledSamples] | None = None,
    ) -> Inventory:
        """Return what was read, to be told at the start of a run.

        Args:
            sizes: by split, the number of samples, or words for a stream.
            labels: by split, the numbers of the classes that have a sample there.
            left_out: numbers of what a task has left out, by the reason, beside what the source has.
            samples: by split, the samples with their labels; None is one that is not known.
        """
        listed, all_left_out = samples or {}, Counter(self.left_out) + Counter(left_out or {})
        files, groups = files_of(listed), self.groups_of(listed)
        return Inventory(self.classes, sizes, labels or {}, self.places, all_left_out, files, self.notes, groups)

    def groups_of(self, samples: Mapping[Split, LabelledSamples]) -> dict[Split, Counter[str]]:
        """Return the numbers of samples of every group, by split; without splits of which no sample has a group."""
        groups = {split: Counter(self.group_of(sample) for sample, _ in found) for split, found in samples.items()}
        return {
            split: Counter({group: count for group, count in found.items() if group is not None})
            for split, found in groups.items()
            if found.keys() - {None}
        }


class ClassificationSource(DatasetSource[LabelledSamples | SampleStream]):
    """A data set for classification.

    A stream decodes a raw sample to `{"source": ..., "label": ...}`; the task that reads it decodes the rest.
    """

    multi_label: bool = False
    """Whether a label is a sequence of class numbers, none, one or more, instead of one number."""


class FolderSource(ClassificationSource):
    """Files that a function such as `read_class_folder` lists at first use.

    Pass functions of a module, or partials of them: the source is pickled for loading workers that are spawned.

    Args:
        read: lists the files.
        write: makes the data set before it is listed, if it is missing.
        multi_label: whether `read` returns several labels for a file.
        read_unsplit: lists the files without holding any out; see `unsplit`.
    """

    def __init__(
        self,
        read: Callable[[], ClassFolder],
        *,
        write: Callable[[], None] | None = None,
        multi_label: bool = False,
        read_unsplit: Callable[[], ClassFolder] | None = None,
    ) -> None:
        self._read = read
        self._write = write
        self._read_unsplit = read_unsplit
        self.multi_label = multi_label

    @classmethod
    def of_classes(
        cls,
        root: str | Path,
        extensions: Collection[str],
        seed: int,
        *,
        write: Callable[[Path], None] | None = None,
        fold: Fold | None = None,
        grouping: Grouping | None = None,
    ) -> Self:
        """Return the source of class folders, which `write` makes if they are missing; see `read_class_folder`."""
        root = Path(root).expanduser()
        read = partial(read_class_folder, root, extensions, seed=seed, fold=fold, grouping=grouping)
        return cls(
            read,
            write=None if write is None else partial(write_once, root, write),
            read_unsplit=partial(read, fold=None, hold_out=False),
        )

    def unsplit(self) -> FolderSource | None:
        """Return the source of the same files with none held out, to score them; None if it does not hold out itself.

        Without split folders, all files are of the test; see `read_class_folder`.
        """
        if self._read_unsplit is None:
            return None
        return FolderSource(self._read_unsplit, write=self._write, multi_label=self.multi_label)

    def prepare(self) -> None:
        """Make the data set if it is missing, and list it."""
        if self._write is not None:
            self._write()
        _ = self.folder  # listed here, before workers are forked, so that they share the list

    @property
    def makes_data(self) -> bool:
        """Whether `prepare` makes the data set where it is missing."""
        return self._write is not None

    def group_of(self, sample: Any) -> str | None:
        """Return the group of a file."""
        return self.listed.groups.get(sample)

    @property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of files and folders that are no samples, by the reason."""
        return self.folder.left_out

    # `listed` and `folder` are two so that a subclass can leave files out of `folder` and still name them.

    @cached_property
    def listed(self) -> ClassFolder:
        """All files of the data set, with their labels."""
        return self._read()

    @cached_property
    def folder(self) -> ClassFolder:
        """The files that are used."""
        return self.listed

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return self.folder.classes

    def split(self, split: Split) -> LabelledSamples | None:
        """Return paths and labels."""
        return self.folder.splits.get(split)

    @property
    def places(self) -> Mapping[Split, str]:
        """Where the samples of a split were found."""
        return self.folder.sources


class DecodedStream(SampleStream):
    """A source's stream, decoded to the tensors of a task.

    Args:
        stream: decodes to `{"source": ..., "label": ...}`.
        decode: turns these two into a dict of tensors.
        skip_unreadable: leave out samples that cannot be decoded, and log them.
        collate: makes a batch of an evaluation; PyTorch's if not given.
    """

    def __init__(
        self,
        stream: SampleStream,
        decode: Callable[[Any, Any], Batch],
        *,
        skip_unreadable: bool,
        collate: Callable[[list[Batch]], Batch] | None = None,
    ) -> None:
        self.stream = stream
        self.collate = collate
        self._decode = decode
        self.shuffle_buffer = stream.shuffle_buffer
        self.skip_unreadable = skip_unreadable

    @property
    def num_shards(self) -> int:
        """Number of shards of the stream."""
        return self.stream.num_shards

    @property
    def digest(self) -> str | None:
        """Of the files of the stream; None if it does not tell."""
        return getattr(self.stream, "digest", None)

    def read(self, shard: int) -> Any:
        """Yield the raw samples of a shard."""
        return self.stream.read(shard)

    def decode(self, raw: Any) -> Batch:
        """Turn a raw sample into a dict of tensors."""
        sample = self.stream.decode(raw)
        return self._decode(sample["source"], sample["label"])


OpenDataset = Callable[[Any, int], Any]
"""Takes the recipe's `data` and its seed; returns a source."""


@dataclass(frozen=True)
class DatasetRegistry:
    """The data sets of an app by the names that `data.source` takes.

    Args:
        package: the package of the modules in `entries`.
        entries: `module:function` by name. A module is imported when its set is opened, so that the libraries of one
            set (scikit-learn, torchvision's sets) neither slow the others down nor have to be installed for them.
        with_folds: names of the sets that have a division of their own, of which `data.fold` chooses a part.
        with_group_pattern: names of the sets that take `data.group_pattern`.
        with_group_column: likewise, `data.group_column`.
        read_by: names of the sets that read an option of `data`, by the option, beside those of `HubOptions`.
    """

    package: str
    entries: Mapping[str, str]
    with_folds: Collection[str] = ()
    with_group_pattern: Collection[str] = ("folder", "hub")
    with_group_column: Collection[str] = ("hub",)
    read_by: Mapping[str, Collection[str]] = field(default_factory=dict)

    def as_choices(self, data: type[D]) -> type[D]:
        """Let the field `source` of a recipe's `data` take these names alone; a decorator, below `@dataclass`."""
        # The parser reads the annotation when the program runs; type checkers cannot know the names, and see a str.
        data.__annotations__["source"] = Literal[tuple(self.entries)]
        return data

    def open(self, data: Any, seed: int) -> Any:
        """Return the source that a recipe names.

        Args:
            data: the recipe's `data`, whose `source` is one of the names.
            seed: the recipe's; decides which samples are held out where the data have no such split.

        Raises:
            ValueError: no data set has this name, or the data have folds, groups or options, which it does not read.
        """
        if data.source not in self.entries:
            raise ValueError(f"data.source must be one of {', '.join(self.entries)}; got {data.source!r}")
        if getattr(data, "folds", None) is not None and data.source != "folder":
            raise ValueError(
                f"data.folds divides the files of a folder, and data.source is {data.source}; leave it out"
            )
        if (
            getattr(data, "fold", 1) != 1
            and getattr(data, "folds", None) is None
            and data.source not in self.with_folds
        ):
            raise ValueError(f"data.fold={data.fold} is one of the parts that data.folds makes; give their number, too")
        if grouping := Grouping.of(data):
            able = self.with_group_pattern if grouping.column is None else self.with_group_column
            if data.source not in able:
                known = ", ".join(name for name in self.entries if name in able)
                raise ValueError(
                    f"{grouping.option} is for data.source {known or 'of no set'}, and data.source is {data.source}; "
                    "leave it out"
                )
        self._refuse_unread(data)
        module, _, function = self.entries[data.source].partition(":")
        open_dataset: OpenDataset = getattr(importlib.import_module(f"{self.package}.{module}"), function)
        return open_dataset(data, seed)

    def _refuse_unread(self, data: Any) -> None:
        """Refuse options that this set would not read, and that somebody gave for another one."""
        read_by = {declared.name: ("hub",) for declared in fields(HubOptions)} | dict(self.read_by)
        for declared in fields(data):
            able = read_by.get(declared.name, self.entries)
            factory = declared.default_factory
            default = declared.default if factory is MISSING else factory()
            value = getattr(data, declared.name)
            if data.source not in able and value != default:
                raise ValueError(
                    f"data.{declared.name}={value} is for data.source {' or '.join(able)}, and data.source is "
                    f"{data.source}; leave it out, or set it to {default}"
                )


@dataclass(kw_only=True)
class HubOptions:
    """The part of a recipe's `data` for sets on Hugging Face's hub, the same in every app."""

    concerns: ClassVar[Concerns] = {DATA: ("streaming", "splits", "label_column", "config", "revision")}

    streaming: bool = False
    """Stream a set from the hub, without a copy on this machine."""
    splits: dict[str, str] = field(default_factory=dict)
    """Names of train, val and test on the hub, where they are not the usual ones, such as {val: test}."""
    label_column: str | None = None
    """Column with the classes in a set of the hub, where it is not the only one of the type ClassLabel."""
    config: str | None = None
    """Configuration of a set of the hub, if it has several, such as languages or versions."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""


@dataclass(kw_only=True)
class DatasetOptions(HubOptions, GroupOptions):
    """The part of a recipe's `data` that is the same in every classification app."""

    concerns: ClassVar[Concerns] = {
        ANYWHERE: ("root", "cache"),
        READING: ("unreadable",),
        DATA: ("folds", "fold", "limit"),
        TRAINING: ("sampling",),
    }

    root: str = "data"
    """Folder of the data, or name of a set on the hub."""
    unreadable: RefuseOrSkip = "refuse"
    """Refuse: stop at a file that cannot be read. Skip: read all files once before the run, and leave out and log those
    that cannot be read; in a stream they are left out as they come."""
    cache: bool = False
    """Keep loaded samples in memory."""
    folds: int | None = None
    """Divide a folder without splits into this many equal parts of every class, for cross-validation; `fold` chooses
    the one for the test, and a tenth of the others is for validation. The seed decides the parts."""
    fold: int = 1
    """The part for the test, from 1 to `folds`."""
    limit: int | None = None
    """Use at most this many samples of each split, spread evenly over the classes, for a quick try; always the same
    ones for a seed. For sets that are not streamed."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """Order of the training samples. Shuffled: an epoch has every sample once. Balanced: an epoch is as long, and has
    every class equally often; samples of rare classes come several times, augmented anew, and of common ones a random
    part. For sets with one label a sample that are not streamed."""

    @property
    def test_fold(self) -> Fold | None:
        """The fold for the test, if the data are divided into folds."""
        return None if self.folds is None else Fold(self.fold, self.folds)

    @property
    def path(self) -> Path:
        """The root as a path."""
        return Path(self.root).expanduser()
