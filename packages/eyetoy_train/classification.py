"""Classification, whatever the modality: loss, metrics, checkpoints and samples of any classifier."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from eyetoy import Classifier, create_model
from eyetoy_train.cli import recipe_text
from eyetoy_train.pictures import LabelledSample, draw_samples
from eyetoy_train.recipe import ClassificationRecipe
from eyetoy_train.task import Batch, Split


class ClassificationTask(ABC):
    """The engine's `Task` for a classifier; a modality says what its samples are and how they look.

    With `cache`, loaded samples are kept in memory. A subclass gives `classes`, `prepare`, `samples`, `load_sample`,
    `transform` and `draw`.
    """

    score = "accuracy"

    def __init__(self, recipe: ClassificationRecipe, *, cache: bool = False) -> None:
        self.recipe = recipe
        self.cache = cache

    @property
    @abstractmethod
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels. Called after `prepare`."""

    @abstractmethod
    def prepare(self) -> None:
        """Write or fetch the data if they are not there."""

    @abstractmethod
    def samples(self, split: Split) -> Sequence[tuple[Any, int]] | None:
        """Return sources and labels of a split, or None if there is no such split."""

    @abstractmethod
    def load_sample(self, source: Any, *, training: bool) -> Tensor:
        """Read a source, such as a path, to a tensor; where `cache` is true the result is kept in memory."""

    @abstractmethod
    def transform(self, raw: Tensor, *, training: bool) -> Tensor:
        """Turn what `load_sample` gave into an input of the model, with augmentation if `training`."""

    @abstractmethod
    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw an input of the model."""

    @property
    def in_channels(self) -> int | None:
        """Channels of the model's input; None for the usual number of the modality."""
        return None

    def dataset(self, split: Split) -> Dataset[Batch] | None:
        """Return a split as dicts with `input` and `label`."""
        samples = self.samples(split)
        return None if samples is None else SampleDataset(self, samples, training=split == "train")

    def build_model(self) -> Classifier:
        """Return the recipe's model."""
        model = self.recipe.model
        return create_model(
            model.name,
            num_classes=len(self.classes),
            in_channels=self.in_channels,
            stem_strides=None if model.stem_strides is None else [_stride(s) for s in model.stem_strides],
            drop_path=model.drop_path,
            dropout=model.dropout,
        )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of a batch."""
        return F.cross_entropy(model(batch["input"]), batch["label"], label_smoothing=self.recipe.label_smoothing)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits, `[batch, classes]`."""
        logits: Tensor = model(batch["input"])
        return logits

    def metrics(self) -> ClassificationMetrics:
        """Return new metrics."""
        return ClassificationMetrics(len(self.classes))

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, the labels and the recipe."""
        assert isinstance(model, Classifier)
        model.save_pretrained(folder)
        (folder / "labels.json").write_text(json.dumps(list(self.classes), indent=2), encoding="utf-8")
        (folder / "recipe.yaml").write_text(recipe_text(self.recipe), encoding="utf-8")

    def load(self, folder: Path) -> Classifier:
        """Return the model that `save` wrote."""
        return Classifier.from_pretrained(folder)

    def write_samples(self, model: nn.Module, split: Split, path: Path, *, count: int = 24) -> None:
        """Draw `count` samples of a split, spread over its classes, with the model's predictions."""
        dataset = self.dataset(split)
        assert isinstance(dataset, SampleDataset)
        step = max(len(dataset) // count, 1)
        batch = default_collate([dataset[i] for i in range(0, len(dataset), step)][:count])
        device = next(model.parameters()).device
        model.eval()
        with torch.inference_mode():
            confidence, prediction = self.outputs(model, {"input": batch["input"].to(device)}).softmax(-1).max(-1)
        drawn = [
            LabelledSample(
                draw=lambda axes, x=x: self.draw(axes, x),  # type: ignore[misc]
                truth=self.classes[truth],
                prediction=self.classes[guess],
                confidence=float(sure),
            )
            for x, truth, guess, sure in zip(batch["input"], batch["label"], prediction, confidence, strict=True)
        ]
        draw_samples(drawn, path)


def _stride(stride: int | list[int]) -> int | tuple[int, ...]:
    return stride if isinstance(stride, int) else tuple(stride)


class SampleDataset(Dataset[Batch]):
    """Samples of a classification task as dicts with `input` and `label`."""

    def __init__(self, task: ClassificationTask, samples: Sequence[tuple[Any, int]], *, training: bool) -> None:
        self.task = task
        self.samples = samples
        self.training = training
        self.kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        return {
            "input": self.task.transform(self._raw(index), training=self.training),
            "label": self.samples[index][1],
        }

    def _raw(self, index: int) -> Tensor:
        if index in self.kept:
            return self.kept[index]
        raw = self.task.load_sample(self.samples[index][0], training=self.training)
        if self.task.cache:
            self.kept[index] = raw
        return raw


class ClassificationMetrics:
    """Accuracy (top-1), top-5, mean accuracy over classes, and cross-entropy."""

    def __init__(self, num_classes: int) -> None:
        self.sums = {
            "confusion": torch.zeros(num_classes, num_classes, dtype=torch.long),  # [truth, prediction]
            "top5": torch.zeros((), dtype=torch.long),
            "loss": torch.zeros((), dtype=torch.float32),
        }

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Add logits `[batch, classes]` and labels `[batch]`."""
        logits, labels = outputs.float().cpu(), batch["label"].cpu()
        ranked = logits.topk(min(5, logits.shape[-1])).indices
        ones = torch.ones_like(labels)
        self.sums["confusion"].index_put_((labels, ranked[:, 0]), ones, accumulate=True)
        self.sums["top5"] += (ranked == labels[:, None]).sum()
        self.sums["loss"] += F.cross_entropy(logits, labels, reduction="sum")

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores."""
        confusion = sums["confusion"].double().cpu()
        count, correct, truths = confusion.sum(), confusion.diagonal(), confusion.sum(1)
        seen = truths > 0
        return {
            "accuracy": float(correct.sum() / count),
            "top5": float(sums["top5"] / count),
            "mean_class_accuracy": float((correct[seen] / truths[seen]).mean()),
            "loss": float(sums["loss"] / count),
            "count": float(count),
        }
