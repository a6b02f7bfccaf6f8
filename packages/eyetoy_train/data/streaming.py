"""Streams: sets that are read from start to end, shard by shard, such as tar files or a set on a hub.

A shard rank numbers the loading workers of all processes: with 2 processes of 3 workers each there are 6, and in
training process 1 has ranks 3 to 5. Every rank reads shards of its own or, where there are fewer shards than ranks,
every n-th sample of all. Order and random numbers depend on the seed and on a sample's place, so a run can be continued
exactly: what it has seen of the latest pass is read again and dropped without being decoded.
"""

from __future__ import annotations

import importlib
import itertools
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch.utils.data import IterableDataset, default_collate, get_worker_info

from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.types import Batch, SampleStream
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import is_clutter
from eyetoy_train.utils.seeds import derive_seed, digest_of, kept_generator

ROWS_AT_ONCE = 64
MOST_MISSING = 1000
"""How many samples in a row may be left out because they cannot be read."""

MOST_EMPTY = 10
"""How many passes in a row may have no sample for a loading worker: of few shards some may be empty."""

READ_AT_ONCE = 2**20
MOST_BYTES = 2**30
"""Largest sample in a tar file. A kilobyte of compressed zeros can announce more."""

Place = tuple[int, int]
"""Index of a shard, and of a sample in it."""

Progress = tuple[int, int, int]
"""How far a loading worker has come: its shard rank, the number of its pass over the stream, and how many samples of
that pass it has drawn."""


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

    @property
    def digest(self) -> str:
        """Of the names and sizes of the files."""
        return digest_of(f"{path.name} {path.stat().st_size}" for path in self.paths)

    def read(self, shard: int) -> Iterator[dict[str, Any]]:
        """Give the samples of a tar file.

        Raises:
            ValueError: the file is damaged; the message names it.
        """
        path = self.paths[shard]
        try:
            with tarfile.open(path, "r|*", tarinfo=_Header) as archive:
                yield from _grouped(archive)
        except Exception as error:  # damaged bytes lead tarfile to errors of many kinds
            raise ValueError(f"cannot read {path}: {error}") from error

    def decode(self, raw: dict[str, Any]) -> Batch:
        """Call the `decode` of the constructor."""
        return self._decode(raw)


class _Header(tarfile.TarInfo):
    """A header that is not passed over if it is damaged: `tarfile` takes all but the first for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Read the next header.

        Raises:
            ReadError: it is damaged, or the archive ends without its mark, two blocks of zeros.
        """
        file: Any = archive.fileobj
        start = file.tell()
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            # Two blocks of zeros, of which some writers leave the second one out, and zeros up to a round size.
            while rest := file.read(READ_AT_ONCE):
                if rest.count(0) < len(rest):
                    raise tarfile.ReadError(
                        f"it is damaged, or several archives in one: its end is marked {start:,} bytes from its "
                        "start, and more follows"
                    ) from None
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is damaged or cut {start:,} bytes from its start: {error}") from error


def _grouped(archive: tarfile.TarFile) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    for member in archive:
        folder, _, name = member.name.rpartition("/")
        if member.isdir() or any(map(is_clutter, member.name.removeprefix("./").split("/"))):
            continue  # tar on macOS adds ._0001.jpg before 0001.jpg
        if not member.isfile():  # of a stream, what a link leads to may have passed
            raise tarfile.TarError(
                f"{member.name} is a link or a device; write the tar file with --dereference --hard-dereference"
            )
        stem, _, extension = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if sample and sample["__key__"] != key:
            yield sample
            sample = {}
        size = sum(map(len, sample.values())) + member.size
        if size > MOST_BYTES:
            raise tarfile.TarError(f"{key} announces {size:,} bytes; a sample has {MOST_BYTES:,} at most")
        file = archive.extractfile(member)
        assert file is not None
        if extension.lower() in sample:
            raise tarfile.TarError(f"{key} has two files with the extension {extension.lower()!r}")
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
        # By batches: to iterate row by row would divide the shard once more over the workers of the data loader.
        for rows in self.dataset.shard(num_shards=self.num_shards, index=shard).iter(batch_size=ROWS_AT_ONCE):
            names = list(rows)
            yield from (dict(zip(names, values, strict=True)) for values in zip(*rows.values(), strict=True))

    def decode(self, raw: dict[str, Any]) -> Batch:
        """Call the `decode` of the constructor."""
        return self._decode(raw)


class TrainingStream(IterableDataset[tuple[Batch, Progress]]):
    """This process's part of a stream in training, without an end: one pass after the other, each in a new order.

    A loader with `batch_size=local_batch_size` makes micro batches of it, in the same order for the same number of
    workers. Each comes with the progress of its worker, from which the worker can go on in another run.

    Args:
        stream: the samples.
        seed: decides order and random numbers.
        progress: of each loading worker of this process, in the order in which they give micro batches.
        num_ranks: loading workers of all processes.
    """

    def __init__(self, stream: SampleStream, seed: int, progress: Sequence[Progress], num_ranks: int) -> None:
        self.stream = stream
        self.seed = seed
        self.progress = progress
        self.num_ranks = num_ranks

    def __iter__(self) -> Iterator[tuple[Batch, Progress]]:
        worker, _ = _worker()
        shard_rank, first_pass, skipped = self.progress[worker]
        missing = empty = 0
        for pass_ in itertools.count(first_pass):
            drawn = 0
            for place, raw, is_last in self._shuffled(pass_, shard_rank):
                drawn += 1
                if pass_ == first_pass and drawn <= skipped:
                    continue
                seed = derive_seed(self.seed, "sample", pass_, *place)
                with kept_generator():
                    torch.default_generator.manual_seed(seed)
                    sample = decode_or_skip(self.stream, raw)
                if sample is not None:
                    missing = 0
                    yield {**sample, "seed": seed}, (shard_rank, *((pass_ + 1, 0) if is_last else (pass_, drawn)))
                    continue
                missing += 1
                if missing > MOST_MISSING:
                    raise ValueError(f"{missing} samples of the stream in a row cannot be read")
            empty = 0 if drawn else empty + 1
            if empty == MOST_EMPTY:  # it would go round for ever
                raise ValueError(
                    f"loading worker {shard_rank + 1} of {self.num_ranks}, over all processes, finds no sample in the "
                    "stream; use a smaller num_workers, or fewer processes"
                )

    def collate(self, samples: list[tuple[Batch, Progress]]) -> tuple[Batch, Progress]:
        """Return a micro batch, and the progress of its worker after it."""
        collate = getattr(self.stream, "collate", None) or default_collate
        return collate([sample for sample, _ in samples]), samples[-1][1]

    def _shuffled(self, pass_: int, shard_rank: int) -> Iterator[tuple[Place, Any, bool]]:
        """Give a rank's samples of a pass, each once, and whether it is the last one.

        They are drawn from a buffer that is kept full until all are read.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "shards", pass_))
        order = torch.randperm(self.stream.num_shards, generator=generator).tolist()
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "buffer", pass_, shard_rank))
        buffer: list[tuple[Place, Any]] = []
        for item in samples_of_rank(self.stream, order, shard_rank, self.num_ranks):
            if len(buffer) < self.stream.shuffle_buffer:
                buffer.append(item)
                continue
            drawn = int(torch.randint(len(buffer), (), generator=generator))
            yield *buffer[drawn], False
            buffer[drawn] = item
        for number, index in enumerate(torch.randperm(len(buffer), generator=generator).tolist(), 1):
            yield *buffer[index], number == len(buffer)


class EvaluationStream(IterableDataset[Batch]):
    """This process's part of a stream, once. Together the parts of all processes hold every sample once."""

    def __init__(self, stream: SampleStream, *, process: int = 0, num_processes: int = 1) -> None:
        self.stream = stream
        self.process = process
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[Batch]:
        worker, num_workers = _worker()
        # The first samples go to different processes: of few samples, each of them must have one.
        shard_rank, num_ranks = worker * self.num_processes + self.process, self.num_processes * num_workers
        for _, raw in samples_of_rank(self.stream, range(self.stream.num_shards), shard_rank, num_ranks):
            sample = decode_or_skip(self.stream, raw)
            if sample is not None:
                yield sample


def decode_or_skip(stream: SampleStream, raw: Any) -> Batch | None:
    """Decode a sample; log one that cannot be decoded, and return None, if the stream may leave it out."""
    try:
        return stream.decode(raw)
    except UnreadableFileError as error:
        if not stream.skip_unreadable:
            raise
        log(f"skipped: {error}")
        return None


def samples_of_rank(
    stream: SampleStream, order: Sequence[int], shard_rank: int, num_ranks: int
) -> Iterator[tuple[Place, Any]]:
    """Give a shard rank its samples of the shards in `order`: no sample goes to two ranks, and none is left out."""
    if len(order) >= num_ranks:
        for shard in order[shard_rank::num_ranks]:
            for index, raw in enumerate(stream.read(shard)):
                yield (shard, index), raw
        return
    number = 0  # fewer shards than ranks: each of them reads everything, and keeps every n-th sample
    for shard in order:
        for index, raw in enumerate(stream.read(shard)):
            if number % num_ranks == shard_rank:
                yield (shard, index), raw
            number += 1


def _worker() -> tuple[int, int]:
    """Return the index of this loading worker and how many its process has; a process that loads itself is one."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
