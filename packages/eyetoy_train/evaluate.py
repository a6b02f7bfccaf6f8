"""Exact evaluation: every sample counted once, on any number of processes."""

from __future__ import annotations

from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from accelerate.utils.operations import slice_tensors
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from eyetoy_train.data import EvaluationSampler, size_of
from eyetoy_train.task import Batch, Task


@torch.inference_mode()
def evaluate(
    task: Task,
    model: nn.Module,
    dataset: Dataset[Batch],
    accelerator: Accelerator,
    *,
    batch_size: int,
    num_workers: int = 0,
) -> dict[str, float]:
    """Return the scores of `model` on `dataset`, the same on every process.

    Raises:
        ValueError: `dataset` is empty.
        RuntimeError: not every sample was counted once.
    """
    size = size_of(dataset)
    if not size:
        raise ValueError("cannot evaluate on an empty set; it must hold at least one sample")
    sampler = EvaluationSampler(size, process=accelerator.process_index, num_processes=accelerator.num_processes)
    loader = DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers)
    metrics = task.metrics()
    # Without the wrapper of distributed training, whose forward pass would wait for the other processes.
    model = accelerator.unwrap_model(model)
    was_training = model.training
    model.eval()
    left = sampler.num_real
    for batch in loader:
        batch = send_to_device(batch, accelerator.device)
        with accelerator.autocast():
            outputs = task.outputs(model, batch)
        own = slice(min(left, batch_size))
        metrics.update(slice_tensors(outputs, own), slice_tensors(batch, own))
        left = max(left - batch_size, 0)
    model.train(was_training)
    scores = metrics.compute(_add_up(metrics.sums, accelerator))
    if round(scores["count"]) != size:
        raise RuntimeError(f"the evaluation counted {scores['count']:.0f} samples of {size}")
    return scores


def _add_up(sums: dict[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    if accelerator.num_processes == 1:
        return sums
    on_device = {key: value.to(accelerator.device) for key, value in sums.items()}
    return cast("dict[str, Tensor]", accelerator.reduce(on_device, reduction="sum"))
