"""Classification of a set that lists its own samples, or that is read as a stream, or of files in class folders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol, cast, get_args

from torch.utils.data import Dataset

from eyetoy_train.classification.folder_task import FolderClassification, FolderData
from eyetoy_train.data.unreadable import log_skipped, why_unreadable
from eyetoy_train.recipe import ClassificationRecipe
from eyetoy_train.types import Batch, SampleStream, Split


class SampleSet(Protocol):
    """A set that knows its classes, and lists its samples or is read as a stream."""

    @property
    def streaming(self) -> bool:
        """Whether it is read as a stream; it then has no `samples`, and no `stream` otherwise."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""

    def prepare(self) -> None:
        """Make sure that the set is there."""


class ListedSet(SampleSet, Protocol):
    """A set that lists its samples."""

    def samples(self, split: Split) -> Sequence[tuple[Any, Any]] | None:
        """Return sources and labels of a split."""


class StreamedSet(SampleSet, Protocol):
    """A set that is read from start to end."""

    def stream(self, split: Split, decode: Callable[[Any, int], Batch]) -> SampleStream | None:
        """Return a split as a stream; `decode` takes a source and a label."""


class SetClassification(FolderClassification):
    """A classification task whose samples are a set's, or, without one, files in class folders.

    Args:
        recipe: the recipe.
        data: its part about files.
        extensions: lower-case endings of the files that count.
        sample_set: the set, if there is one.
    """

    def __init__(
        self,
        recipe: ClassificationRecipe,
        data: FolderData,
        extensions: Collection[str],
        sample_set: ListedSet | StreamedSet | None,
    ) -> None:
        super().__init__(recipe, data, extensions)
        self.set = sample_set
        is_streamed = sample_set is not None and sample_set.streaming
        self.streamed = cast("StreamedSet", sample_set) if is_streamed else None
        self.listed = None if is_streamed else cast("ListedSet | None", sample_set)
        self._readable: dict[Split, Sequence[tuple[Any, Any]] | None] = {}

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return super().classes if self.set is None else self.set.classes

    def prepare(self) -> None:
        """Make sure that all is there; read all of it once if what cannot be read is to be left out."""
        if self.set is None:
            super().prepare()
            return
        self.set.prepare()
        if self.listed is not None and self.skip_unreadable:
            for split in get_args(Split):
                self.samples(split)

    def samples(self, split: Split) -> Sequence[tuple[Any, Any]] | None:
        """Return sources, as `load_sample` takes them, and labels."""
        if self.listed is None:
            return super().samples(split)
        if not self.skip_unreadable:
            return self.listed.samples(split)
        if split not in self._readable:
            self._readable[split] = self._without_unreadable(self.listed.samples(split))
        return self._readable[split]

    def _without_unreadable(self, samples: Sequence[tuple[Any, Any]] | None) -> Sequence[tuple[Any, Any]] | None:
        """Leave out what cannot be read, and name it."""
        if samples is None:
            return None
        sources = [source for source, _ in samples]
        reasons = why_unreadable(sources, lambda source: self.load_sample(source, training=False))
        log_skipped([reason for reason in reasons if reason], len(samples))
        return [sample for sample, reason in zip(samples, reasons, strict=True) if reason is None]

    def dataset(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split, or a stream of it, as dicts with `input` and `label`."""
        if self.streamed is None:
            return super().dataset(split)
        stream = self.streamed.stream(split, partial(self._decode, training=split == "train"))
        if stream is not None:
            stream.skip_unreadable = self.skip_unreadable
        return stream

    def _decode(self, source: Any, label: Any, *, training: bool) -> Batch:
        example = self.example(self.load_sample(source, training=training), training=training)
        return example | {"label": self.target(label)}
