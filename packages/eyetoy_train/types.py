"""The values that tasks, data and the engine exchange."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

Split = Literal["train", "val", "test"]
Batch = dict[str, Any]
Modality = Literal["image", "audio", "video"]
"""What a model takes, and so the name of the app that it belongs to."""
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    """A float is a fraction, shown in percent."""


@dataclass(frozen=True)
class Details:
    """Tables and figures behind the scores, for a report."""

    tables: Sequence[Table] = ()
    pictures: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class About:
    """Facts for the card of a trained model, in addition to its recipe and scores."""

    data: str = "data of its own"
    """The training data, to be put in the middle of a sentence; no path, since cards are published."""
    hub_dataset: str | None = None
    """Name of the data on Hugging Face's hub, if they come from there."""
    pipeline_tag: str = ""
    """The hub's name of the task, such as `image-classification`."""
    predict: str = "python predict.py"
    """The command that applies a model to files."""
    limits: Sequence[str] = ()
    """Limits of the model that the scores do not show, in sentences."""

    @classmethod
    def of_data(cls, kind: str, data: Any, **said: Any) -> Self:
        """Describe a recipe's `data` as `about_data` does, and say what else there is to say."""
        hub_dataset = data.root if data.source == "hub" and not _is_here(data.root) else None
        return cls(data=about_data(kind, data.source, data.root), hub_dataset=hub_dataset, **said)


def about_data(kind: str, source: str, root: str) -> str:
    """Describe data in a few words: the name of a set, or the last part of a folder's or the hub's name.

    Args:
        kind: of files, such as `images`.
        source: the recipe's `data.source`: the name of a set, or `folder`, `hub` and the like.
        root: the folder of the data, or their name on the hub.
    """
    if source == "hub" and not _is_here(root):
        return f"{root}, a set of Hugging Face's hub"
    if source in ("folder", "hub", "list", "tagged", "webdataset"):
        # The last part only: cards are published, and a path may hold the names of people and machines.
        return f"{kind} of the folder {Path(root).name}"
    return f"the set {source.replace('_', ' ')}"


def _is_here(root: str) -> bool:
    """Whether data of the hub's form are a folder of this machine, whose path is nobody else's business."""
    return Path(root).expanduser().exists() or Path(root).expanduser().is_absolute()


class SampleStream(ABC):
    """A data set as shards of raw samples and a way to decode them."""

    shuffle_buffer: int = 1000
    """Number of raw samples held in training, from which the next one is drawn at random."""
    skip_unreadable: bool = False
    """Leave out samples that cannot be decoded, and log them, instead of stopping at the first one."""

    @property
    @abstractmethod
    def num_shards(self) -> int:
        """Number of shards, at least one."""

    @abstractmethod
    def read(self, shard: int) -> Iterator[Any]:
        """Yield the raw samples of a shard, always in the same order.

        Keep this cheap: on resume, samples are read and dropped without `decode` up to the place where the run stopped.
        """

    @abstractmethod
    def decode(self, raw: Any) -> Batch:
        """Turn a raw sample into a dict of tensors; what is random must come from torch's global generator."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which, why, and what there is instead."""
