"""A data set as a trained model sees it: with the model's class numbers, and perhaps all splits in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from eyetoy_train.data.folder import ALL_FILES
from eyetoy_train.data.layouts import composed
from eyetoy_train.data.source import ClassificationSource, FolderSource, LabelledSamples
from eyetoy_train.types import Batch, SampleStream, Split
from eyetoy_train.utils.console import named


class RelabelledSource(ClassificationSource):
    """The samples of a source, numbered by the classes of a trained model.

    The same names in another order would give other labels, and a wrong score without an error.

    Args:
        source: the samples.
        labels: names of the model's classes, in the order of its outputs.
        whole: put the samples of all splits into `test`, and leave the others out.
    """

    def __init__(self, source: ClassificationSource, labels: Sequence[str], *, whole: bool = False) -> None:
        self.whole = whole
        if whole and isinstance(source, FolderSource):
            source = source.unsplit() or source  # which has files for every class, however few there are
        self.source = source
        self.multi_label = source.multi_label
        self._labels = list(labels)
        self._numbers: list[int] = []

    @property
    def classes(self) -> Sequence[str]:
        """Names of the model's classes."""
        return self._labels

    def prepare(self) -> None:
        """Prepare the source, and number its classes.

        Raises:
            ValueError: the model does not know one of them.
        """
        self.source.prepare()
        number = {composed(name): label for label, name in enumerate(self._labels)}
        unknown = [name for name in self.source.classes if composed(name) not in number]
        if unknown:
            raise ValueError(
                f"the data have classes that the checkpoint does not know: {named(unknown)}; it knows "
                f"{named(self._labels, 20)}"
            )
        self._numbers = [number[composed(name)] for name in self.source.classes]

    def split(self, split: Split) -> LabelledSamples | SampleStream | None:
        """Return the samples of a split, or of all.

        Raises:
            ValueError: all samples are asked for, and the source is a stream.
        """
        if not self.whole:
            return self._relabelled(self.source.split(split))
        if split != "test":
            return None
        parts: list[tuple[Any, Any]] = []
        names: tuple[Split, ...] = ("train", "val", "test")
        for found in map(self.source.split, names):
            if isinstance(found, SampleStream):
                raise ValueError("--split all is for data with a list of samples, and these are streamed; name a split")
            parts += found or ()
        return self._relabelled(parts)

    def _relabelled(self, found: LabelledSamples | SampleStream | None) -> LabelledSamples | SampleStream | None:
        if found is None or self._numbers == [*range(len(self._labels))]:
            return found
        if isinstance(found, SampleStream):
            return RelabelledStream(found, self._number)
        return [(source, self._number(label)) for source, label in found]

    def _number(self, label: Any) -> Any:
        return [self._numbers[one] for one in label] if self.multi_label else self._numbers[label]

    def group_of(self, sample: Any) -> str | None:
        """Return the group of a sample."""
        return self.source.group_of(sample)

    @property
    def places(self) -> Mapping[Split, str]:
        """Where the samples of a split were found."""
        return {"test": ALL_FILES} if self.whole else self.source.places

    @property
    def left_out(self) -> Mapping[str, int]:
        """Numbers of files and others that are no samples, by the reason."""
        return self.source.left_out

    @property
    def notes(self) -> Sequence[str]:
        """What else there is to say: also that classes of the model are missing."""
        present = len(self._numbers)
        missing = [f"{present} of the checkpoint's {len(self._labels)} classes"] * (present < len(self._labels))
        return [*self.source.notes, *missing]


class RelabelledStream(SampleStream):
    """A source's stream with other labels.

    Args:
        stream: decodes to `{"source": ..., "label": ...}`.
        number: returns the label of a label.
    """

    def __init__(self, stream: SampleStream, number: Callable[[Any], Any]) -> None:
        self.stream = stream
        self._number = number
        self.shuffle_buffer = stream.shuffle_buffer
        self.skip_unreadable = stream.skip_unreadable

    @property
    def num_shards(self) -> int:
        """Number of shards of the stream."""
        return self.stream.num_shards

    def read(self, shard: int) -> Iterator[Any]:
        """Yield the raw samples of a shard."""
        return self.stream.read(shard)

    def decode(self, raw: Any) -> Batch:
        """Turn a raw sample into a dict with the source and the label."""
        sample = self.stream.decode(raw)
        return sample | {"label": self._number(sample["label"])}
