"""Which samples come when, and on which process: the same for any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sized
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from eyetoy_train.task import Batch


def derive_seed(*parts: int | str) -> int:
    """Return a seed that depends on every part, and that is unrelated for parts that differ by little."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


class SeededDataset(Dataset[Batch]):
    """A dataset whose random draws are a function of seed, epoch and sample alone.

    They do not depend on the number of processes or workers, nor on what was drawn before, so that a run can be
    continued exactly. Takes `(epoch, index)` keys, as `ShuffledSampler` gives them.
    """

    def __init__(self, dataset: Dataset[Batch], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return size_of(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "sample", epoch, index))
            return self.dataset[index]


class ShuffledSampler(Sampler[tuple[int, int]]):
    """Every sample once, in an order that seed and epoch decide; this process takes its slice of each batch.

    `batch_size` samples make up one pass over all processes. An incomplete last pass is dropped, except where it is
    the only one.
    """

    def __init__(self, size: int, batch_size: int, seed: int, *, process: int, num_processes: int) -> None:
        if size < 1:
            raise ValueError("the training set is empty; it must hold at least one sample")
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.process = process
        self.num_processes = num_processes
        self.epoch = 0

    @property
    def num_batches(self) -> int:
        """Passes per epoch."""
        return max(self.size // self.batch_size, 1)

    def __len__(self) -> int:
        return self.num_batches * self.batch_size // self.num_processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        share = self.batch_size // self.num_processes
        for batch in range(self.num_batches):
            first = batch * self.batch_size + self.process * share
            # A set smaller than one pass is repeated to fill it.
            yield from ((self.epoch, order[i % self.size]) for i in range(first, first + share))


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


def training_loader(
    dataset: Dataset[Batch],
    *,
    batch_size: int,
    seed: int,
    num_workers: int,
    process: int = 0,
    num_processes: int = 1,
) -> tuple[DataLoader[Batch], ShuffledSampler]:
    """Return a loader of this process's passes, `batch_size` samples over all processes each, and its sampler."""
    sampler = ShuffledSampler(size_of(dataset), batch_size, seed, process=process, num_processes=num_processes)
    share = batch_size // num_processes
    loader = DataLoader(
        SeededDataset(dataset, seed), batch_size=share, sampler=cast("Sampler[int]", sampler), num_workers=num_workers
    )
    return loader, sampler


def size_of(dataset: Dataset[Batch]) -> int:
    """Return the number of samples of a map-style dataset."""
    return len(cast("Sized", dataset))
