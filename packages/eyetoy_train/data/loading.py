"""Which samples come when, and on which process: the same for any number of processes, from any step on.

An optimizer step sees `batch_size` samples. They are divided into micro batches, one for each forward and backward pass
of gradient accumulation, and each micro batch over the processes. Micro batches are numbered from the start of the run;
what the n-th one holds depends on the seed and on n alone, so a run can be continued at any of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from eyetoy_train.data.collate import SharedCollate
from eyetoy_train.data.streaming import Progress, TrainingStream
from eyetoy_train.types import Batch, SampleStream
from eyetoy_train.utils.console import log
from eyetoy_train.utils.seeds import derive_seed, kept_generator
from eyetoy_train.utils.signals import worker_setup

Key = tuple[int, int, int]
"""Epoch, index of a sample, and how many times the sample has come in that epoch before."""


class SeededDataset(Dataset[Batch]):
    """A dataset whose random numbers are a function of its seed and the key alone.

    They depend neither on the number of processes or workers nor on what was drawn before, so a run can be continued
    exactly. It takes the keys of `ShuffledSampler` and adds the seed to the sample, as `seed`.

    Args:
        dataset: map-style. If it has `uses_randomness = False`, its generator is not seeded, which saves time. Its
            `collate` is kept.
        seed: of the run.
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
        """Return several samples at once; PyTorch's loaders call this instead of `__getitem__` where it exists."""
        seeds = [
            # The first time is left out of the seed, so that runs without repeats draw what they always did.
            derive_seed(self.seed, "sample", epoch, index, *([times] if times else []))
            for epoch, index, times in keys
        ]
        if not self.uses_randomness:
            return [{**self.dataset[index], "seed": seed} for (_, index, _), seed in zip(keys, seeds, strict=True)]
        samples = []
        with kept_generator():  # once for all of them: to keep the state takes longer than to seed it
            for (_, index, _), seed in zip(keys, seeds, strict=True):
                torch.default_generator.manual_seed(seed)
                samples.append({**self.dataset[index], "seed": seed})
        return samples


class ShuffledSampler(Sampler[Key]):
    """Gives the keys of this process's samples, micro batch by micro batch, in an order that seed and epoch decide.

    For example, with 10 samples, `batch_size=8`, 2 micro batches and 2 processes: an epoch is one step, of the first 8
    samples in its order. Micro batch 0 takes places 0 to 3, of which process 0 gets places 0 and 1. Micro batch 2 is
    the first of epoch 1, in a new order. An incomplete last step, here places 8 and 9, is dropped; but a set smaller
    than a step is repeated to fill it.

    Args:
        size: number of samples of the set.
        batch_size: samples per optimizer step, over all processes.
        seed: of the run.
        process: index of this process.
        num_processes: how many there are.
        num_micro_batches: micro batches per optimizer step.
        repeats: how often a sample comes in a row. An epoch keeps its length, so it sees that many times fewer.
        labels: the number of each sample's class, to draw every class equally often; see `balanced_order`. None to draw
            every sample once in an epoch.

    Attributes:
        start: the first micro batch to give, numbered from the start of the run.
        stop: the one after the last.

    Raises:
        ValueError: the set is empty.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        *,
        process: int = 0,
        num_processes: int = 1,
        num_micro_batches: int = 1,
        repeats: int = 1,
        labels: Sequence[int] | None = None,
    ) -> None:
        if size < 1:
            raise ValueError("the training set is empty; it must hold at least one sample")
        self.size = size
        self.seed = seed
        self.repeats = repeats
        self.process = process
        self.global_micro_batch_size = batch_size // num_micro_batches
        self.local_batch_size = self.global_micro_batch_size // num_processes
        self.steps_per_epoch = max(size // batch_size, 1)
        self.micro_batches_per_epoch = self.steps_per_epoch * num_micro_batches
        self.classes = None if labels is None else Classes.of(labels)
        self.length = max(size, batch_size)
        self.start, self.stop = 0, self.micro_batches_per_epoch

    def __len__(self) -> int:
        return (self.stop - self.start) * self.local_batch_size

    def __iter__(self) -> Iterator[Key]:
        offset = self.process * self.local_batch_size
        for micro_batch in range(self.start, self.stop):
            yield from self.keys(micro_batch)[offset : offset + self.local_batch_size]

    def keys(self, micro_batch: int) -> list[Key]:
        """Return what all processes together see in a micro batch."""
        epoch, micro_batch = divmod(micro_batch, self.micro_batches_per_epoch)
        seed = derive_seed(self.seed, "order", epoch)
        order, earlier = _order(self.size, seed), None
        if self.classes is not None:
            order, earlier = _balanced_order(self.classes, self.length, seed)
        keys = []
        first = micro_batch * self.global_micro_batch_size
        for draw in range(first, first + self.global_micro_batch_size):
            # With repeats=3, draws 0, 1, 2 are the sample at place 0, draws 3, 4, 5 the one at place 1. In a set of two
            # samples, draw 6 comes back to place 0, whose sample has come 3 times by then.
            place, times = divmod(draw, self.repeats)
            rounds, place = divmod(place, len(order))
            if earlier is not None:  # a balanced order is never too short, and has samples several times itself
                rounds = earlier[place]
            keys.append((epoch, order[place], times + rounds * self.repeats))
        return keys


def batches_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """Give the batches of a loader.

    Raises:
        RuntimeError: a loading worker died while it handed over a batch. PyTorch says so itself if it finds the worker
            dead; if it asks a moment earlier, it passes on the failed connection, as if a file could not be read.
    """
    batches: Iterator[Any] | None = None
    while True:
        try:
            if batches is None:
                batches = iter(loader)  # workers that are kept hand over what the epoch before has left
            batch = next(batches)
        except StopIteration:
            return
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            if not loader.num_workers or "DataLoader worker process" in str(error):  # of reading a sample
                raise
            raise RuntimeError(
                "a DataLoader worker exited unexpectedly while it handed over a batch; if the system killed it for "
                "lack of memory, use a smaller num_workers or batch_size"
            ) from error
        yield batch


def repeats_apart(repeats: int, *batches: Tensor) -> tuple[Tensor, ...]:
    """Return batches, `[batch, ...]` each, in an order in which the repeats of a sample are no neighbours.

    Neighbours are the pairs that torchvision mixes: a sample would be mixed with itself. A batch with repeats of one
    sample alone has no such order.
    """
    if repeats == 1:
        return batches
    order = (torch.arange(len(batches[0])) % repeats).argsort(stable=True).to(batches[0].device)
    return tuple(batch[order] for batch in batches)


@lru_cache(maxsize=2)  # asked for in every micro batch; two, where an epoch of the recipe ends within one of the set
def _order(size: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


@dataclass(frozen=True, eq=False)  # compared by identity, so that a cache need not look at a million labels
class Classes:
    """The samples of every class."""

    members: tuple[Tensor, ...]
    """Their indices, by class; classes without samples are left out."""

    @classmethod
    def of(cls, labels: Sequence[int]) -> Self:
        """Return the samples of every class.

        Args:
            labels: the number of each sample's class.
        """
        numbers = torch.tensor(labels)
        counts = numbers.bincount()
        return cls(torch.split(numbers.argsort(stable=True), counts[counts > 0].tolist()))


def balanced_order(classes: Classes, length: int, seed: int) -> tuple[list[int], list[int]]:
    """Return an order in which the classes come equally often, as evenly as the length allows.

    In every round each class comes once, in an order of its own. A class gives its samples in a random order, and all
    of them before any comes again. For example, of samples 0 to 3 of class a and 4 of class b: 4, 2, 0, 4, 4, 3.

    Args:
        classes: the samples of every class.
        length: of the order.
        seed: decides it.

    Returns:
        the index of the sample at each place, and how often it has come before.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(classes.members)
    rounds = -(-length // count)
    turns = torch.rand(rounds, count, generator=generator).argsort(1).flatten()[:length]  # whose turn it is
    order, earlier = torch.empty(length, dtype=torch.long), torch.empty(length, dtype=torch.long)
    places = torch.split(turns.argsort(stable=True), turns.bincount(minlength=count).tolist())
    for members, own in zip(classes.members, places, strict=True):
        times = -(-len(own) // len(members))
        shuffled = [members[torch.randperm(len(members), generator=generator)] for _ in range(times)]
        order[own] = torch.cat([*shuffled, members[:0]])[: len(own)]
        earlier[own] = torch.arange(len(own)) // len(members)
    return order.tolist(), earlier.tolist()


_balanced_order = lru_cache(maxsize=2)(balanced_order)


class EvaluationSampler(Sampler[int]):
    """Every n-th sample for each of n processes, and as many for all of them.

    A sharded model gathers its weights in every forward pass, so all processes must go through the same number. For
    example, of 5 samples process 0 of 2 gets [0, 2, 4] and process 1 gets [1, 3, 4]. The last sample comes twice, and
    process 1 must not count it: its `num_real` is 2.
    """

    def __init__(self, size: int, *, process: int, num_processes: int) -> None:
        self.size = size
        self.process = process
        self.num_processes = num_processes

    @property
    def num_real(self) -> int:
        """How many of the samples this process counts."""
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
    num_micro_batches: int = 1
    """Micro batches per optimizer step."""
    repeats: int = 1
    """How often a sample comes in a row."""
    seed: int
    """Decides the order, and what is random in a sample."""
    num_workers: int = 0
    """Loading processes of each training process."""
    process: int = 0
    """Index of this process."""
    num_processes: int = 1
    """How many there are."""
    pin_memory: bool = False
    """Put batches into page-locked memory, from which a GPU copies faster."""

    @property
    def local_batch_size(self) -> int:
        """Samples of a micro batch that this process takes."""
        return self.batch_size // self.num_micro_batches // self.num_processes

    def loader(self, dataset: Dataset[Any], sampler: Sampler[Any] | None = None) -> DataLoader[Any]:
        """Return a loader of this process's part of micro batches."""
        return DataLoader(
            dataset,
            batch_size=self.local_batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,  # they keep what the dataset caches
            pin_memory=self.pin_memory,
            collate_fn=SharedCollate(collate_of(dataset)),
            worker_init_fn=worker_setup(),
        )


class TrainingData(Protocol):
    """A training set as micro batches."""

    @property
    def num_samples(self) -> int | None:
        """Samples of the set; None for a stream of unknown size."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps that go once through the set; None for a stream of unknown size."""

    def micro_batches(self, epoch_start: int, *, skip: int, count: int) -> Iterator[Batch]:
        """Give this process's part of `count` micro batches of an epoch.

        Args:
            epoch_start: the first micro batch of the epoch, numbered from the start of the run.
            skip: how many of the epoch to leave out first.
            count: how many to give.
        """

    def describe(self, start: int, count: int) -> str:
        """Name the samples of `count` micro batches from `start` on, for a message."""

    def progress(self) -> list[Progress] | None:
        """Return what a checkpoint needs of this process to go on after the latest micro batch; None for nothing."""

    def resume(self, progress: list[list[Progress]] | None) -> None:
        """Go on from a checkpoint with the `progress` of all its processes."""

    def close(self) -> None:
        """End the loading workers."""


class MapData:
    """A map-style set as micro batches."""

    def __init__(self, dataset: Dataset[Batch], loading: Loading) -> None:
        self.num_samples: int | None = size_of(dataset)
        self.sampler = ShuffledSampler(
            size_of(dataset),
            loading.batch_size,
            loading.seed,
            process=loading.process,
            num_processes=loading.num_processes,
            num_micro_batches=loading.num_micro_batches,
            repeats=loading.repeats,
            labels=getattr(dataset, "balanced_labels", None),
        )
        self.steps_per_epoch: int | None = self.sampler.steps_per_epoch
        self.loader = loading.loader(SeededDataset(dataset, loading.seed), self.sampler)

    def micro_batches(self, epoch_start: int, *, skip: int, count: int) -> Iterator[Batch]:
        """Give micro batches. An epoch of the recipe may be shorter or longer than the set: the next one goes on."""
        self.sampler.start = epoch_start + skip
        self.sampler.stop = self.sampler.start + count
        return batches_of(self.loader)

    def describe(self, start: int, count: int) -> str:
        """Name the first samples of the micro batches."""
        indices = [index for number in range(start, start + count) for _, index, _ in self.sampler.keys(number)]
        return f"samples {_some(indices)} of the training set"

    def progress(self) -> None:
        """Return None: the number of a micro batch tells what is in it."""

    def resume(self, progress: list[list[Progress]] | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """End the loading workers; they start anew for the next micro batch."""
        _end_workers(self.loader)


class StreamData:
    """A stream as micro batches. An epoch goes on where the one before it stopped, so every pass sees every sample."""

    num_samples: int | None = None
    steps_per_epoch: int | None = None

    def __init__(self, stream: SampleStream, loading: Loading) -> None:
        if loading.repeats > 1:
            raise ValueError(f"augmentation_repeats={loading.repeats} is for sets, not for streams; leave it at 1")
        self.stream = stream
        self.loading = loading
        self._workers = self._at_pass(0)
        self._loader: DataLoader[Any] | None = None
        self._running: Iterator[Any] | None = None

    def _at_pass(self, number: int) -> list[Progress]:
        """Return the progress of this process's loading workers at the start of a pass."""
        count = max(self.loading.num_workers, 1)
        return [(self.loading.process * count + worker, number, 0) for worker in range(count)]

    def micro_batches(self, epoch_start: int, *, skip: int, count: int) -> Iterator[Batch]:
        """Give the next micro batches, whichever epoch they belong to."""
        if self._running is None:
            num_ranks = self.loading.num_processes * len(self._workers)
            seed = derive_seed(self.loading.seed, "stream")
            # The workers start with a copy of this progress.
            dataset = TrainingStream(self.stream, seed, tuple(self._workers), num_ranks)
            self._loader = self.loading.loader(dataset)
            self._running = batches_of(self._loader)
        try:
            for batch, progress in itertools.islice(self._running, count):
                # A loader asks its workers one after the other for a micro batch each: the first one becomes the last.
                self._workers = [*self._workers[1:], progress]
                yield batch
        except Exception:
            self.close()  # what raised has ended, and would seem to have no more batches
            raise

    def describe(self, start: int, count: int) -> str:
        """Name the micro batch; a stream does not number its samples."""
        return f"micro batch {start + 1} of the stream"

    def progress(self) -> list[Progress]:
        """Return how far each loading worker has come, the next one to give a micro batch first."""
        return self._workers

    def resume(self, progress: list[list[Progress]] | None) -> None:
        """Go on where a checkpoint's workers stopped; if they were others, with a pass that none of them had begun."""
        found = progress or []
        ranks = [sorted(rank for rank, _, _ in workers) for workers in found]
        size = len(self._workers)
        self.close()
        if ranks == [[*range(start, start + size)] for start in range(0, self.loading.num_processes * size, size)]:
            self._workers = [*found[self.loading.process]]
            drawn = sum(drawn for workers in found for _, _, drawn in workers)
            if drawn and self.loading.process == 0:
                log(f"{drawn:,} samples of the stream that this pass has seen are read again, and not decoded")
            return
        self._workers = self._at_pass(max((number + 1 for workers in found for _, number, _ in workers), default=0))
        if self.loading.process == 0:
            why = "other numbers of processes or loading workers" if found else "no place in the stream"
            log(f"the checkpoint has {why}, so the run goes on with a new pass over the stream")

    def close(self) -> None:
        """End the loading workers; they start anew, where they were, for the next micro batch."""
        if self._loader is not None:
            _end_workers(self._loader)
        self._loader = self._running = None


def _end_workers(loader: DataLoader[Any]) -> None:
    # What refers to an iterator, such as a traceback, would otherwise keep its workers; and the garbage collector waits
    # for them in vain where it finds it in a cycle.
    running: Any = loader._iterator
    if hasattr(running, "_shutdown_workers"):
        running._shutdown_workers()
    loader._iterator = None


def training_data(dataset: Dataset[Batch] | SampleStream, loading: Loading) -> TrainingData:
    """Return a training set, map-style or a stream, as micro batches."""
    return StreamData(dataset, loading) if isinstance(dataset, SampleStream) else MapData(dataset, loading)


def collate_of(dataset: Dataset[Any]) -> Callable[[list[Any]], Any]:
    """Return the function that makes batches: the dataset's `collate`, or PyTorch's, which stacks tensors."""
    collate: Callable[[list[Any]], Any] = getattr(dataset, "collate", default_collate)
    return collate


def size_of(dataset: Dataset[Batch]) -> int:
    """Return the number of samples of a map-style dataset."""
    return len(cast("Sized", dataset))


def _some(indices: list[int], shown: int = 8) -> str:
    return ", ".join(map(str, indices[:shown])) + (f" and {len(indices) - shown} more" if len(indices) > shown else "")
