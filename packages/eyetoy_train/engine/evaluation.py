"""Exact evaluation: every sample counted once, on any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from accelerate.utils.operations import slice_tensors
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from eyetoy_train.data.collate import SharedCollate
from eyetoy_train.data.loading import EvaluationSampler, batches_of, collate_of, size_of
from eyetoy_train.data.streaming import EvaluationStream
from eyetoy_train.task import Metrics, Task
from eyetoy_train.types import Batch, SampleStream
from eyetoy_train.utils.signals import worker_setup

NO_INDEX = -1
"""Index of a sample of a stream, which has none."""


@runtime_checkable
class RowMetrics(Metrics, Protocol):
    """Metrics whose scores cannot be computed from sums, such as those of a ranking: they keep a row for each sample.

    Rows of the same name are concatenated over all batches and processes, in no particular order, and handed to
    `compute` and `details` beside the sums. There is at least one tensor of each name, possibly empty.
    """

    rows: dict[str, list[Tensor]]


def evaluate(
    task: Task,
    model: nn.Module,
    dataset: Dataset[Batch] | SampleStream,
    accelerator: Accelerator,
    *,
    batch_size: int,
    num_workers: int = 0,
    before_batch: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Return the scores of `model` on `dataset`, the same on every process.

    Args:
        task: gives the outputs and the metrics.
        model: in training or not; its mode is restored.
        dataset: a split of the data.
        accelerator: the processes that share the work.
        batch_size: samples per forward pass on each process.
        num_workers: loading workers of each process.
        before_batch: called before each batch; what it raises ends the evaluation.

    Raises:
        ValueError: `dataset` is empty.
        RuntimeError: not every sample was counted once.
    """
    evaluation = Evaluation(
        task, accelerator, batch_size=batch_size, num_workers=num_workers, before_batch=before_batch
    )
    return task.metrics().compute(evaluation.sums(model, dataset))


@dataclass(frozen=True)
class Evaluation:
    """How to evaluate; arguments and errors are those of `evaluate`."""

    task: Task
    accelerator: Accelerator
    batch_size: int
    num_workers: int = 0
    before_batch: Callable[[], None] | None = None

    @torch.no_grad()
    def sums(self, model: nn.Module, dataset: Dataset[Batch] | SampleStream) -> dict[str, Tensor]:
        """Return the sums that `Metrics.compute` takes."""
        task, accelerator = self.task, self.accelerator
        metrics = task.metrics()
        # Without the wrapper for distributed training, whose forward pass would wait for the other processes.
        model = accelerator.unwrap_model(model)
        was_training = model.training
        model.eval()
        counted = 0
        for batch, indices in _batches(dataset, accelerator, self.batch_size, self.num_workers):
            num_own = len(indices)
            if self.before_batch:
                self.before_batch()
            batch = send_to_device(batch, accelerator.device)
            with accelerator.autocast():
                outputs = task.outputs(model, batch)
            metrics.update(_first(outputs, num_own), _first(batch, num_own) | {"index": indices})
            counted += num_own
        model.train(was_training)
        sums = _add_up(metrics.sums | {"samples": torch.tensor(counted)}, accelerator)
        seen = int(sums.pop("samples"))
        size = seen if isinstance(dataset, SampleStream) else size_of(dataset)
        if not seen:
            raise ValueError("cannot evaluate on an empty set; it must hold at least one sample")
        if isinstance(metrics, RowMetrics):
            sums |= {name: _join(torch.cat(parts), accelerator) for name, parts in metrics.rows.items()}
        found = round(metrics.compute(sums)["count"])
        if not found == seen == size:
            raise RuntimeError(f"the evaluation saw {seen} samples of {size}, and counted {found}")
        return sums


def _batches(
    dataset: Dataset[Batch] | SampleStream, accelerator: Accelerator, batch_size: int, num_workers: int
) -> Iterator[tuple[Batch, Tensor]]:
    """Give batches, as many on every process, and the indices of the samples of each that this process counts."""
    place = {"process": accelerator.process_index, "num_processes": accelerator.num_processes}
    if isinstance(dataset, SampleStream):
        stream = EvaluationStream(dataset, **place)
        loader = DataLoader(
            stream,
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=getattr(dataset, "collate", None),
            worker_init_fn=worker_setup(),
        )
        for batch, num_own in _in_step(loader, accelerator):
            yield batch, torch.full((num_own,), NO_INDEX)
        return
    size = size_of(dataset)
    if not size:
        return
    sampler = EvaluationSampler(size, **place)
    # After them may come one that another process counts. The dtype is for a process with none.
    own = torch.tensor([*sampler][: sampler.num_real], dtype=torch.long)
    loader = DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=SharedCollate(collate_of(dataset)),
        worker_init_fn=worker_setup(),
    )
    for number, batch in enumerate(batches_of(loader)):
        yield batch, own[number * batch_size :][:batch_size]


def _in_step(loader: DataLoader[Batch], accelerator: Accelerator) -> Iterator[tuple[Batch, int]]:
    """Give batches while any process has some; one that has none left repeats its last batch and counts no sample."""
    batches, last = batches_of(loader), None
    while True:
        batch = next(batches, None)
        num_going_on = _count(batch is not None, accelerator)
        if not num_going_on:
            return
        if last is None and num_going_on < accelerator.num_processes:  # the same on all of them, in the first round
            raise ValueError("the stream leaves a process without a sample to evaluate; use fewer processes")
        last = last if batch is None else batch
        assert last is not None
        yield last, 0 if batch is None else _length(batch)


def _first(values: Any, count: int) -> Any:
    """Return the first `count` samples of a batch: rows of tensors, entries of lists, and both inside dicts."""
    if isinstance(values, list):
        return values[:count]
    if isinstance(values, dict):
        return {key: _first(value, count) for key, value in values.items()}
    return slice_tensors(values, slice(count))


def _length(batch: Batch) -> int:
    return next(len(value) for value in batch.values() if isinstance(value, Tensor))


def _count(own: bool, accelerator: Accelerator) -> int:
    if accelerator.num_processes == 1:
        return int(own)
    return int(accelerator.reduce(torch.tensor(int(own), device=accelerator.device), reduction="sum"))


def _add_up(sums: dict[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    if accelerator.num_processes == 1:
        return sums
    on_device = {key: value.to(accelerator.device) for key, value in sums.items()}
    return cast("dict[str, Tensor]", accelerator.reduce(on_device, reduction="sum"))


def _join(rows: Tensor, accelerator: Accelerator) -> Tensor:
    """Return the rows of all processes, which may have different numbers of them."""
    if accelerator.num_processes == 1:
        return rows
    # `gather` needs equal shapes: [3 rows] and [5 rows] are padded to 5 each, gathered to 10, and cut to 3 and 5 again.
    counts = accelerator.gather(torch.tensor([len(rows)], device=accelerator.device)).tolist()
    if not max(counts):
        return rows
    padded = torch.zeros(max(counts), *rows.shape[1:], dtype=rows.dtype, device=accelerator.device)
    padded[: len(rows)] = rows
    parts = accelerator.gather(padded).split(max(counts))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
