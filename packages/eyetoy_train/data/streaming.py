"""Streams: sets that are read from start to end, shard by shard, such as tar files or a set on a hub.

Every process and loading worker takes shards of its own, or, where there are fewer shards than takers, every n-th
sample of all. Order and random draws depend on seed and place alone, so that a run can be continued exactly: what was
seen already is read again and dropped without being decoded.
"""

from __future__ import annotations

import importlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch.utils.data import IterableDataset, get_worker_info

from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.types import Batch, SampleStream
from eyetoy_train.utils.console import log
from eyetoy_train.utils.seeds import derive_seed, kept_generator

ROWS_AT_ONCE = 64
MOST_MISSING = 1000
"""How many samples in a row may be left out because they cannot be read."""

MOST_BYTES = 2**30
"""Of a sample in a tar file, which a kilobyte of compressed zeros can announce."""

Place = tuple[int, int]
"""Number of a shard and of a sample in it."""


class TarStream(SampleStream):
    """Tar files in WebDataset's layout: neighbouring files of one name and several extensions are a sample.

    A raw sample maps extensions to bytes, and `__key__` to the name. Nothing is written to disk or unpickled.

    Args:
        paths: the tar files, compressed or not.
        decode: turns a raw sample into a dict of tensors.

    Raises:
        FileNotFoundError: there are none.
    """

    def __init__(self, paths: Sequence[Path], decode: Callable[[dict[str, Any]], Batch]) -> None:
        if not paths:
            raise FileNotFoundError("a stream needs at least one tar file")
        self.paths = sorted(paths)
        self._decode = decode

    @property
    def num_shards(self) -> int:
        """How many tar files there are."""
        return len(self.paths)

    def read(self, shard: int) -> Iterator[dict[str, Any]]:
        """Give the samples of a tar file.

        Raises:
            ValueError: the file is damaged; the message names it.
        """
        path = self.paths[shard]
        try:
            with tarfile.open(path, "r|*") as archive:
                yield from _grouped(archive)
        except Exception as error:  # tarfile raises whatever damaged bytes lead it to
            raise ValueError(f"cannot read {path}: {error}") from error

    def decode(self, raw: dict[str, Any]) -> Batch:
        """Return what the function given at construction makes of it."""
        return self._decode(raw)


def _grouped(archive: tarfile.TarFile) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    for member in archive:
        if not member.isfile():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if sample and sample["__key__"] != key:
            yield sample
            sample = {}
        held = sum(map(len, sample.values()))
        if held + member.size > MOST_BYTES:
            raise tarfile.TarError(f"{key} announces {held + member.size:,} bytes; a sample has {MOST_BYTES:,} at most")
        file = archive.extractfile(member)
        assert file is not None
        sample |= {"__key__": key, extension.lower(): file.read()}
    if sample:
        yield sample


class HubStream(SampleStream):
    """An iterable set of Hugging Face's `datasets`: `load_dataset(name, split="train", streaming=True)`.

    Args:
        dataset: the set, which says by `num_shards` and `shard` how it is divided.
        decode: turns a row, a dict, into a dict of tensors.
    """

    def __init__(self, dataset: Any, decode: Callable[[dict[str, Any]], Batch]) -> None:
        self.dataset = dataset
        self._decode = decode

    @classmethod
    def load(cls, name: str, split: str, decode: Callable[[dict[str, Any]], Batch], **options: Any) -> Self:
        """Open a split of a set by its name on the hub, or by a folder; `options` are those of `load_dataset`."""
        datasets = importlib.import_module("datasets")  # slow to import, and only needed here
        return cls(datasets.load_dataset(name, split=split, streaming=True, **options), decode)

    @property
    def num_shards(self) -> int:
        """How many shards the set has."""
        return int(self.dataset.num_shards)

    def read(self, shard: int) -> Iterator[dict[str, Any]]:
        """Give the rows of a shard."""
        # By batches, because to iterate row by row divides a set once more over the workers of a data loader.
        for rows in self.dataset.shard(num_shards=self.num_shards, index=shard).iter(batch_size=ROWS_AT_ONCE):
            names = list(rows)
            yield from (dict(zip(names, values, strict=True)) for values in zip(*rows.values(), strict=True))

    def decode(self, raw: dict[str, Any]) -> Batch:
        """Return what the function given at construction makes of it."""
        return self._decode(raw)


class EpochStream(IterableDataset[Batch]):
    """This process's part of a stream in training, in passes of `share` samples, without an end.

    A data loader with `batch_size=share` gives the passes in the same order for the same number of workers.
    """

    def __init__(
        self, stream: SampleStream, seed: int, share: int, *, process: int = 0, num_processes: int = 1
    ) -> None:
        self.stream = stream
        self.seed = seed
        self.share = share
        self.process = process
        self.num_processes = num_processes
        self.start(0, skip=0)

    def start(self, epoch_start: int, *, skip: int) -> None:
        """Begin an epoch, which has a number of its own, at its pass `skip`."""
        self.epoch_start = epoch_start
        self.skip = skip

    def __iter__(self) -> Iterator[Batch]:
        worker, num_workers = _worker()
        # A loader asks its workers in turn, from the first one on, for a pass each.
        turn = (worker + self.skip) % num_workers
        taker, num_takers = self.process * num_workers + turn, self.num_processes * num_workers
        skipped = self.share * len(range(turn, self.skip, num_workers))
        missing = 0
        for number, (place, raw) in enumerate(self._shuffled(taker, num_takers)):
            if number >= skipped:
                seed = derive_seed(self.seed, "sample", self.epoch_start, *place)
                with kept_generator():
                    torch.default_generator.manual_seed(seed)
                    sample = decode_or_skip(self.stream, raw)
                if sample is None:
                    missing += 1
                    if missing > MOST_MISSING:
                        raise ValueError(f"{missing} samples of the stream in a row cannot be read")
                    continue
                # In the place of one that cannot be read comes the next one, so that places can be counted unread.
                yield from [{**sample, "seed": seed}] * (1 + missing)
                missing = 0

    def _shuffled(self, taker: int, num_takers: int) -> Iterator[tuple[tuple[int, int, int], Any]]:
        """Draw from a buffer that is kept full."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "buffer", self.epoch_start, taker))
        held: list[tuple[tuple[int, int, int], Any]] = []
        for item in self._endless(taker, num_takers):
            if len(held) < self.stream.shuffle_buffer:
                held.append(item)
                continue
            drawn = int(torch.randint(len(held), (), generator=generator))
            yield held[drawn]
            held[drawn] = item

    def _endless(self, taker: int, num_takers: int) -> Iterator[tuple[tuple[int, int, int], Any]]:
        """Go round the shards again and again, in a new order each time."""
        round_ = 0
        while True:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "shards", self.epoch_start, round_))
            order = torch.randperm(self.stream.num_shards, generator=generator).tolist()
            found = False
            for (shard, index), raw in samples_of_taker(self.stream, order, taker, num_takers):
                found = True
                yield (round_, shard, index), raw
            if not found:
                raise ValueError(f"taker {taker + 1} of {num_takers} finds no sample in the stream; use fewer workers")
            round_ += 1


class EvaluationStream(IterableDataset[Batch]):
    """This process's part of a stream, once: all parts together are the whole."""

    def __init__(self, stream: SampleStream, *, process: int = 0, num_processes: int = 1) -> None:
        self.stream = stream
        self.process = process
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[Batch]:
        worker, num_workers = _worker()
        taker, num_takers = self.process * num_workers + worker, self.num_processes * num_workers
        for _, raw in samples_of_taker(self.stream, range(self.stream.num_shards), taker, num_takers):
            sample = decode_or_skip(self.stream, raw)
            if sample is not None:
                yield sample


def decode_or_skip(stream: SampleStream, raw: Any) -> Batch | None:
    """Decode a sample; None, and a message, for one that cannot be decoded and may be left out."""
    try:
        return stream.decode(raw)
    except UnreadableFileError as error:
        if not stream.skip_unreadable:
            raise
        log(f"skipped: {error}")
        return None


def samples_of_taker(
    stream: SampleStream, order: Sequence[int], taker: int, num_takers: int
) -> Iterator[tuple[Place, Any]]:
    """Give one of `num_takers` its part of the shards in `order`: no sample goes to two, and none is left out."""
    if len(order) >= num_takers:
        for shard in order[taker::num_takers]:
            for index, raw in enumerate(stream.read(shard)):
                yield (shard, index), raw
        return
    number = 0
    for shard in order:
        for index, raw in enumerate(stream.read(shard)):
            if number % num_takers == taker:
                yield (shard, index), raw
            number += 1


def _worker() -> tuple[int, int]:
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
