"""Which samples come when, and on which process: the same for any number of processes, from any step on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from eyetoy_train.data.collate import SharedCollate
from eyetoy_train.data.streaming import EpochStream
from eyetoy_train.types import Batch, SampleStream
from eyetoy_train.utils.seeds import derive_seed, kept_generator
from eyetoy_train.utils.signals import worker_setup

Key = tuple[int, int, int]
"""Epoch, index of a sample, and how many times the sample came in that epoch before."""


class SeededDataset(Dataset[Batch]):
    """A dataset whose random draws are a function of its seed and the key alone.

    They do not depend on the number of processes or workers, nor on what was drawn before, so that a run can be
    continued exactly. Takes the keys that `ShuffledSampler` gives, and adds the seed to the sample. A dataset whose
    `uses_randomness` is false saves the time to seed a generator for every sample. A dataset's own `collate` is kept.
    """

    def __init__(self, dataset: Dataset[Batch], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.uses_randomness: bool = getattr(dataset, "uses_randomness", True)
        self.collate = collate_of(dataset)

    def __len__(self) -> int:
        return size_of(self.dataset)

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Batch]:
        """Return the samples of a pass; data loaders call this where there is one."""
        seeds = [
            derive_seed(self.seed, "sample", epoch, index, *([times] if times else [])) for epoch, index, times in keys
        ]
        if not self.uses_randomness:
            return [{**self.dataset[index], "seed": seed} for (_, index, _), seed in zip(keys, seeds, strict=True)]
        with kept_generator():  # once for all of them: to keep its state takes longer than to seed it
            return [self._drawn(index, seed) for (_, index, _), seed in zip(keys, seeds, strict=True)]

    def _drawn(self, index: int, seed: int) -> Batch:
        torch.default_generator.manual_seed(seed)
        return {**self.dataset[index], "seed": seed}


class ShuffledSampler(Sampler[Key]):
    """Passes over a set in an order that seed and epoch decide; this process takes its slice of each pass.

    `batch_size` samples make up one optimizer step over all processes, in `passes_per_step` passes. An incomplete last
    step of an epoch is dropped, except where it is the only one: a set smaller than a step is repeated to fill it.
    Passes are counted from the start of the run; `start` and `stop` say which ones are given. With `repeats`, a sample
    comes so often in a row, and an epoch, which stays as long, sees as many fewer of them.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        *,
        process: int = 0,
        num_processes: int = 1,
        passes_per_step: int = 1,
        repeats: int = 1,
    ) -> None:
        if size < 1:
            raise ValueError("the training set is empty; it must hold at least one sample")
        self.size = size
        self.seed = seed
        self.repeats = repeats
        self.process = process
        self.pass_size = batch_size // passes_per_step
        self.share = self.pass_size // num_processes
        self.steps_per_epoch = max(size // batch_size, 1)
        self.passes_per_epoch = self.steps_per_epoch * passes_per_step
        self.start, self.stop = 0, self.passes_per_epoch

    def __len__(self) -> int:
        return (self.stop - self.start) * self.share

    def __iter__(self) -> Iterator[Key]:
        for number in range(self.start, self.stop):
            keys = self.keys(number)
            yield from keys[self.process * self.share : (self.process + 1) * self.share]

    def keys(self, number: int) -> list[Key]:
        """Return what all processes together see in a pass."""
        epoch, place = divmod(number, self.passes_per_epoch)
        order = _order(self.size, derive_seed(self.seed, "order", epoch))
        first = place * self.pass_size
        return [(epoch, order[i], times) for i, times in map(self._place, range(first, first + self.pass_size))]

    def _place(self, number: int) -> tuple[int, int]:
        """Return the place in the order of an epoch's draw, and how often what is there came before."""
        draw, times = divmod(number, self.repeats)
        rounds, place = divmod(draw, self.size)
        return place, times + rounds * self.repeats


@lru_cache(maxsize=2)
def _order(size: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


class EvaluationSampler(Sampler[int]):
    """This process's share of a set, so that together every sample is seen.

    All processes get the same number of samples, which models that are spread over processes rely on: some get one
    more than is theirs, the last, and must not count it. `num_real` says how many are theirs.
    """

    def __init__(self, size: int, *, process: int, num_processes: int) -> None:
        self.size = size
        self.process = process
        self.num_processes = num_processes

    @property
    def num_real(self) -> int:
        """How many of the samples are this process's own."""
        return len(range(self.process, self.size, self.num_processes))

    def __len__(self) -> int:
        return -(-self.size // self.num_processes)

    def __iter__(self) -> Iterator[int]:
        return iter(min(self.process + i * self.num_processes, self.size - 1) for i in range(len(self)))


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a training set is loaded, and this process's part in it."""

    batch_size: int
    """Samples per optimizer step, over all processes."""
    passes_per_step: int = 1
    """Forward and backward passes per optimizer step."""
    repeats: int = 1
    """How often a sample comes in a row."""
    seed: int
    """Decides the order, and what is random in a sample."""
    num_workers: int = 0
    """Loading processes of each training process."""
    process: int = 0
    """Number of this process."""
    num_processes: int = 1
    """How many there are."""
    pin_memory: bool = False
    """Put batches into page-locked memory, from which a GPU copies faster."""

    @property
    def share(self) -> int:
        """Samples that this process takes in a pass."""
        return self.batch_size // self.passes_per_step // self.num_processes

    def loader(self, dataset: Dataset[Batch], sampler: Sampler[Any] | None = None) -> DataLoader[Batch]:
        """Return a loader of this process's passes."""
        return DataLoader(
            dataset,
            batch_size=self.share,
            sampler=sampler,
            num_workers=self.num_workers,
            # They keep what the dataset caches; those of a stream are to begin anew with every epoch.
            persistent_workers=self.num_workers > 0 and sampler is not None,
            pin_memory=self.pin_memory,
            collate_fn=SharedCollate(collate_of(dataset)),
            worker_init_fn=worker_setup(),
        )


class TrainingData(Protocol):
    """The passes of a training set; what each holds depends on the seed and its number in the run alone."""

    @property
    def num_samples(self) -> int | None:
        """Samples of the set; None for a stream of unknown size."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps of one pass over the set; None for a stream of unknown size."""

    def passes(self, epoch_start: int, *, skip: int, count: int) -> Iterator[Batch]:
        """Give this process's part of `count` passes of an epoch, without its first `skip`.

        `epoch_start` is the number, in the run, of the epoch's first pass.
        """

    def describe(self, start: int, count: int) -> str:
        """Say which samples `count` passes from `start` on hold, for a message."""


class MapData:
    """A map-style set in passes."""

    def __init__(self, dataset: Dataset[Batch], loading: Loading) -> None:
        self.num_samples: int | None = size_of(dataset)
        self.sampler = ShuffledSampler(
            size_of(dataset),
            loading.batch_size,
            loading.seed,
            process=loading.process,
            num_processes=loading.num_processes,
            passes_per_step=loading.passes_per_step,
            repeats=loading.repeats,
        )
        self.steps_per_epoch: int | None = self.sampler.steps_per_epoch
        self.loader = loading.loader(SeededDataset(dataset, loading.seed), self.sampler)

    def passes(self, epoch_start: int, *, skip: int, count: int) -> Iterator[Batch]:
        """Give passes; an epoch that the recipe makes shorter or longer than the set goes on where the last ended."""
        self.sampler.start = epoch_start + skip
        self.sampler.stop = self.sampler.start + count
        return iter(self.loader)

    def describe(self, start: int, count: int) -> str:
        """Name the first samples of the passes."""
        indices = [index for number in range(start, start + count) for _, index, _ in self.sampler.keys(number)]
        return f"samples {_some(indices)} of the training set"


class StreamData:
    """A stream in passes. Every epoch starts at a new order of the shards."""

    num_samples: int | None = None
    steps_per_epoch: int | None = None

    def __init__(self, stream: SampleStream, loading: Loading) -> None:
        if loading.repeats > 1:
            raise ValueError(f"augmentation_repeats={loading.repeats} is for sets, not for streams; leave it at 1")
        self.loading = loading
        self.dataset = EpochStream(
            stream,
            derive_seed(loading.seed, "stream"),
            loading.share,
            process=loading.process,
            num_processes=loading.num_processes,
        )

    def passes(self, epoch_start: int, *, skip: int, count: int) -> Iterator[Batch]:
        """Give passes; those to skip are read and dropped without being decoded."""
        self.dataset.start(epoch_start, skip=skip)
        # A new loader, whose workers take over the state of the dataset.
        return itertools.islice(self.loading.loader(self.dataset), count)

    def describe(self, start: int, count: int) -> str:
        """Say which pass of the run it was; a stream does not number its samples."""
        return f"pass {start + 1} of the stream"


def training_data(dataset: Dataset[Batch] | SampleStream, loading: Loading) -> TrainingData:
    """Return a training set, map-style or a stream, in passes."""
    return StreamData(dataset, loading) if isinstance(dataset, SampleStream) else MapData(dataset, loading)


def collate_of(dataset: Dataset[Batch]) -> Callable[[list[Batch]], Batch]:
    """Return what makes a batch of samples: the dataset's `collate`, or PyTorch's default, which stacks tensors."""
    collate: Callable[[list[Batch]], Batch] = getattr(dataset, "collate", default_collate)
    return collate


def size_of(dataset: Dataset[Batch]) -> int:
    """Return the number of samples of a map-style dataset."""
    return len(cast("Sized", dataset))


def _some(indices: list[int], shown: int = 8) -> str:
    return ", ".join(map(str, indices[:shown])) + (f" and {len(indices) - shown} more" if len(indices) > shown else "")
