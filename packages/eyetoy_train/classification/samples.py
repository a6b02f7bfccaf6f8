"""Samples of a classification task with a model's predictions: a picture of them, and files that play them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import default_collate

from eyetoy_train.data.loading import size_of
from eyetoy_train.data.streaming import EvaluationStream
from eyetoy_train.report.figures import LabelledSample, draw_samples
from eyetoy_train.types import Batch, SampleStream, Split

if TYPE_CHECKING:
    from eyetoy_train.classification.task import ClassificationTask


def write_sample_sheet(task: ClassificationTask, model: nn.Module, split: Split, path: Path, count: int) -> list[Path]:
    """Draw `count` samples of a split to a PNG file, and return files that play them, in a folder of the same name."""
    batch = default_collate(_spread(task, split, count))
    model.eval()
    with torch.inference_mode():
        outputs = task.outputs(model, send_to_device(batch, next(model.parameters()).device))
        confidence, prediction = (values.cpu() for values in task.probabilities(outputs).max(-1))
    views = batch["input"] if task.num_views == 1 else batch["input"][:, task.num_views // 2]
    samples = [
        LabelledSample(
            draw=lambda axes, x=x: task.draw(axes, x),  # type: ignore[misc]
            truth=_truth(task, target, int(guess)),
            prediction=task.classes[guess],
            confidence=float(sure),
        )
        for x, target, guess, sure in zip(views, batch["label"], prediction, confidence, strict=True)
    ]
    draw_samples(samples, path)
    return _play(task, views, samples, path.with_suffix(""))


def _spread(task: ClassificationTask, split: Split, count: int) -> list[Batch]:
    dataset = task.dataset(split)
    assert dataset is not None
    if isinstance(dataset, SampleStream):
        return list(itertools.islice(EvaluationStream(dataset), count))
    size = size_of(dataset)
    return [dataset[i] for i in range(0, size, max(size // count, 1))][:count]


def _truth(task: ClassificationTask, target: Tensor, guess: int) -> str:
    """Name the class of a sample; of several the predicted one, if it is among them."""
    if not task.multi_label:
        return task.classes[int(target)]
    labels = [guess] if target[guess] else target.nonzero().flatten().tolist()
    return ", ".join(task.classes[label] for label in labels) or "none"


def _play(task: ClassificationTask, views: Tensor, samples: Sequence[LabelledSample], folder: Path) -> list[Path]:
    files = []
    for number, (x, sample) in enumerate(zip(views, samples, strict=True), 1):
        said = sample.truth if sample.prediction == sample.truth else f"{sample.truth}, taken for {sample.prediction}"
        file = task.play(x, folder / re.sub(r"[^\w, -]", "-", f"{number:02d} {said}"))
        files += [] if file is None else [file]
    return files
