"""Datasets of a classification task for a data loader."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from eyetoy_train.classification.samples import source_name
from eyetoy_train.data.source import LabelledSamples
from eyetoy_train.data.unreadable import log_skipped, unreadable_files, why_unreadable
from eyetoy_train.types import Batch, Split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.seeds import derive_seed, digest_of


class SampleReader(Protocol):
    """The part of a task that turns a source into an example."""

    cache: bool
    uses_randomness: bool

    def load_sample(self, source: Any, *, training: bool) -> Tensor:
        """Read a source to a tensor."""

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Turn the tensor into an example."""

    def target(self, label: Any) -> Any:
        """Return a label in the form that a batch holds."""


class SampleDataset(Dataset[Batch]):
    """Labelled sources as dicts with `input`, `label`, and the other entries of the task's `example`."""

    def __init__(self, reader: SampleReader, samples: LabelledSamples, *, training: bool) -> None:
        self.reader = reader
        self.samples = samples
        self.training = training
        self.balanced_labels: Sequence[int] | None = None
        """The number of each sample's class, to have every class drawn equally often in training."""
        self.uses_randomness = training and reader.uses_randomness
        self.collate: Callable[[list[Batch]], Batch] = default_collate
        """Makes a batch; in an evaluation, also of samples with different numbers of views."""
        if not training:
            self.collate = getattr(reader, "collate", default_collate)
        self._loaded: dict[int, Tensor] = {}

    @property
    def digest(self) -> str:
        """A hash of the names and labels of all samples, in their order."""
        return digest_of(f"{source_name(source, index)}\t{label}" for index, (source, label) in enumerate(self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        source, label = self.samples[index]
        raw = self._loaded.get(index)
        if raw is None:
            raw = self.reader.load_sample(source, training=self.training)
            if self.reader.cache:
                # Each worker fills its own dict, which pays since workers live as long as the run. The tensor before
                # `example` is kept, which draws anew in every epoch.
                self._loaded[index] = raw
        return self.reader.example(raw, training=self.training) | {"label": self.reader.target(label)}


def without_unreadable(
    splits: dict[Split, LabelledSamples],
    root: Path,
    read: Callable[[Any], object],
    classes: Sequence[str],
    *,
    reader: str,
) -> dict[Split, LabelledSamples]:
    """Read every sample once, log those that cannot be read on the main process, and return the others.

    Args:
        splits: the samples.
        root: the folder of the data, which keeps a record of intact files that need not be read again.
        read: reads a source; raises UnreadableFileError or OSError if it cannot.
        classes: names of the classes.
        reader: what `read` is, as of `unreadable_files`.

    Raises:
        ValueError: a split would be empty, or a class would have nothing left to train on.
    """
    sources = [source for samples in splits.values() for source, _ in samples]
    reasons: Sequence[str | None]
    if root.is_dir() and all(isinstance(source, Path) for source in sources):
        found = unreadable_files(root, sources, read, reader=reader)
        reasons = [found.get(source) for source in sources]
    else:  # rows of a table have no time of change that a record could compare
        reasons = why_unreadable(sources, read)
    log_skipped([reason for reason in reasons if reason is not None], len(sources))
    remaining = iter(reasons)  # in the order of `sources`: split by split
    readable = {split: [sample for sample in samples if next(remaining) is None] for split, samples in splits.items()}
    empty = [split for split, samples in readable.items() if splits[split] and not samples]
    if empty:
        raise ValueError(f"no file of the split {empty[0]!r} can be read")
    lost = labels_of(splits.get("train", ())).keys() - labels_of(readable.get("train", ())).keys()
    if lost:
        raise ValueError(
            f"no file for training can be read of the classes {named([classes[label] for label in sorted(lost)])}; "
            "mend their files, or take these classes out of the data set"
        )
    return dict(readable)


def limited(samples: LabelledSamples, limit: int, seed: int) -> LabelledSamples:
    """Return at most `limit` samples, in their order: as many of each class as of any other, as far as there are some.

    For example, of classes of 500, 50 and 2 samples a limit of 30 takes 14, 14 and 2. Which ones is random, decided by
    the seed for each class by itself. Samples with several labels are drawn from all of them together.
    """
    places: dict[Any, list[int]] = defaultdict(list)
    for place, (_, label) in enumerate(samples):
        places[-1 if isinstance(label, Sequence) else int(label)].append(place)
    chosen: list[int] = []
    # From the smallest class on: what it lacks of its share goes to the larger ones.
    ordered = sorted(places.items(), key=lambda item: (len(item[1]), item[0]))
    for number, (label, members) in enumerate(ordered):
        count = min((limit - len(chosen)) // (len(ordered) - number), len(members))
        chosen += random.Random(derive_seed(seed, "limit", label)).sample(members, count)
    return [samples[place] for place in sorted(chosen)]


def class_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """Return the weight n / (k n_c) of every class, `[classes]`: that of all samples of a class is the same, n / k.

    Args:
        labels: the number of each of the n samples' class.
        num_classes: their number; k is the number of those that have a sample, and the others have weight 0.
    """
    counts = torch.tensor(labels).bincount(minlength=num_classes)
    weights = len(labels) / (int((counts > 0).sum()) * counts.clamp(min=1).double())
    return torch.where(counts > 0, weights, 0.0).float()


def labels_of(samples: LabelledSamples) -> Counter[int]:
    """Return how many samples each class has, by its number; without the classes that have none."""
    return Counter(int(one) for _, label in samples for one in (label if isinstance(label, Sequence) else (label,)))
