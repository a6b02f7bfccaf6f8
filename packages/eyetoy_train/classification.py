"""Classification, whatever the modality: loss, metrics, checkpoints and samples of any classifier."""

from __future__ import annotations

import itertools
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

from eyetoy_train.classification_metrics import ClassificationMetrics
from eyetoy_train.cli import recipe_text
from eyetoy_train.data import size_of
from eyetoy_train.models import SavedModel, build_classifier, load_classifier
from eyetoy_train.pictures import LabelledSample, draw_samples
from eyetoy_train.recipe import ClassificationRecipe
from eyetoy_train.stream import EvaluationStream, SampleStream
from eyetoy_train.task import Batch, Split


class ClassificationTask(ABC):
    """The engine's `Task` for a classifier; a modality says what its samples are and how they look.

    A sample goes through `load_sample`, whose result `cache` keeps in memory, and `transform`, where it is loaded;
    then, as part of a batch and on the model's device, through `to_input` and, in training, `augment`. A subclass gives
    `classes`, `prepare`, `samples`, `load_sample`, `transform` and `draw`.
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
        """Turn what `load_sample` gave into a part of a batch, with random changes if `training`."""

    @abstractmethod
    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw what `transform` gave."""

    def to_input(self, x: Tensor) -> Tensor:
        """Turn a batch of what `transform` gave into the model's input."""
        return x

    def augment(self, x: Tensor, target: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Change inputs of the model at random, and the target of the loss with them.

        Args:
            x: what `to_input` gave.
            target: labels, `[batch]`.
            seeds: what to draw from by `uniforms`, int64 `[batch]`.

        Returns:
            inputs, and labels or class probabilities `[batch, classes]`.
        """
        return x, target

    @property
    def in_channels(self) -> int | None:
        """Channels of the model's input; None for the usual number of the modality."""
        return None

    def dataset(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split as dicts with `input` and `label`."""
        samples = self.samples(split)
        return None if samples is None else SampleDataset(self, samples, training=split == "train")

    @property
    def grid(self) -> Sequence[int] | None:
        """Spatial size of the model's input, where it has one; for models that are built for one size."""
        return None

    def build_model(self) -> nn.Module:
        """Return the recipe's model."""
        return build_classifier(
            self.recipe.model, num_classes=len(self.classes), in_channels=self.in_channels, grid=self.grid
        )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of a batch."""
        x, target = self.augment(self.to_input(batch["input"]), batch["label"], batch["seed"])
        return F.cross_entropy(model(x), target, label_smoothing=self.recipe.label_smoothing)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits, `[batch, classes]`."""
        logits: Tensor = model(self.to_input(batch["input"]))
        return logits

    def metrics(self) -> ClassificationMetrics:
        """Return new metrics."""
        return ClassificationMetrics(len(self.classes), self.classes)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, the labels and the recipe."""
        assert isinstance(model, SavedModel)
        model.save_pretrained(folder)
        (folder / "labels.json").write_text(json.dumps(list(self.classes), indent=2), encoding="utf-8")
        (folder / "recipe.yaml").write_text(recipe_text(self.recipe), encoding="utf-8")

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote."""
        return load_classifier(folder)

    def write_samples(self, model: nn.Module, split: Split, path: Path, *, count: int = 24) -> None:
        """Draw `count` samples of a split, spread over its classes, with the model's predictions."""
        batch = default_collate(self._shown(split, count))
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

    def _shown(self, split: Split, count: int) -> list[Batch]:
        dataset = self.dataset(split)
        assert dataset is not None
        if isinstance(dataset, SampleStream):
            return list(itertools.islice(EvaluationStream(dataset), count))
        size = size_of(dataset)
        return [dataset[i] for i in range(0, size, max(size // count, 1))][:count]


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
