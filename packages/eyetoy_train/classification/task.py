"""Classification, whatever the modality: loss, metrics, checkpoints and samples of any classifier."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.utils.data import Dataset

from eyetoy_train.classification.metrics import ClassificationMetrics
from eyetoy_train.classification.multi_label import MultiLabelMetrics
from eyetoy_train.classification.samples import write_sample_sheet
from eyetoy_train.export.portable import PlainClassifier, PlainInput, PlainModel
from eyetoy_train.models.build import SavedModel, build_classifier, load_classifier
from eyetoy_train.models.external import TIMM, Families
from eyetoy_train.recipe import ClassificationRecipe, recipe_text
from eyetoy_train.task import Metrics
from eyetoy_train.types import About, Batch, SampleStream, Split

FORCED_CHOICE = "It names one of its classes for whatever it is given, also for what is none of them."
"""A limit of every classifier whose samples have one label."""


class ClassificationTask(ABC):
    """The engine's `Task` for a classifier; a modality says what its samples are and how they look.

    A sample goes through `load_sample`, whose result `cache` keeps in memory, and `example`, where it is loaded; then,
    as part of a batch and on the model's device, through `to_input` and, in training, `augment`. A subclass gives
    `classes`, `prepare`, `samples`, `load_sample`, `draw`, and `transform`, or `example` if `input` is not all of it.
    """

    families: Families = TIMM
    """Other projects' models that a recipe may name."""

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
    def samples(self, split: Split) -> Sequence[tuple[Any, Any]] | None:
        """Return sources and labels of a split, or None if there is no such split."""

    @abstractmethod
    def load_sample(self, source: Any, *, training: bool) -> Tensor:
        """Read a source, such as a path, to a tensor; where `cache` is true the result is kept in memory."""

    @abstractmethod
    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw the `input` of an example, one view of it."""

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Return what a model takes of a sample: `input`, and whatever `forward` needs beside it."""
        return {"input": self.transform(raw, training=training)}

    def transform(self, raw: Tensor, *, training: bool) -> Tensor:
        """Turn what `load_sample` gave into the `input` of an example, with random changes if `training`.

        Where a sample has several views in an evaluation, they are the first axis.
        """
        return raw

    def to_input(self, batch: Batch) -> Batch:
        """Turn the examples of a batch into the model's input."""
        return batch

    def augment(self, batch: Batch) -> Batch:
        """Change a training batch at random, of which `to_input` made the model's input.

        Its `seed`, int64 `[batch]`, is for draws by `uniforms`. Its `label` holds numbers `[batch]`, or, where a sample
        has several, zeros and ones `[batch, classes]`; where classes are mixed, it becomes their probabilities.
        """
        return batch

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits, `[batch, classes]`."""
        logits: Tensor = model(batch["input"])
        return logits

    @property
    def score(self) -> str:
        """The metric that says which epoch was best."""
        return "mAP" if self.multi_label else "accuracy"

    @property
    def protocol(self) -> str:
        """How an evaluation looks at a sample, such as its views; empty where there is one way only."""
        return ""

    @property
    def about(self) -> About:
        """What a card says of the data and the task."""
        return About()

    @property
    def multi_label(self) -> bool:
        """Whether a sample has any number of labels, as a sequence of their numbers, in place of one."""
        return False

    @property
    def num_views(self) -> int:
        """Views of a sample in an evaluation, such as parts of a long one, whose probabilities are averaged."""
        return 1

    @property
    def uses_randomness(self) -> bool:
        """Whether `transform` draws from torch's global generator in training; False saves to seed it."""
        return True

    @property
    def in_channels(self) -> int | None:
        """Channels of the model's input; None for the usual number of the modality."""
        return None

    @property
    def grid(self) -> Sequence[int] | None:
        """Spatial size of the model's input, where it has one; for models that are built for one size."""
        return None

    def dataset(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split as dicts with `input` and `label`."""
        samples = self.samples(split)
        return None if samples is None else SampleDataset(self, samples, training=split == "train")

    def target(self, label: Any) -> Any:
        """Return a sample's label as a part of a batch: its number, or zeros and ones for all classes."""
        if not self.multi_label:
            return label
        return torch.zeros(len(self.classes)).index_fill_(0, torch.tensor(label, dtype=torch.long), 1.0)

    def build_model(self) -> nn.Module:
        """Return the recipe's model."""
        return build_classifier(
            self.recipe.model,
            num_classes=len(self.classes),
            in_channels=self.in_channels,
            grid=self.grid,
            families=self.families,
        )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of a batch; over each class by itself where a sample has several labels."""
        batch = self.augment(self.to_input(batch))
        logits, target, smoothing = self.forward(model, batch), batch["label"], self.recipe.label_smoothing
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits, target * (1 - smoothing) + smoothing / 2)
        return F.cross_entropy(logits, target, label_smoothing=smoothing)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits, `[batch, classes]`; of several views those of their mean probability."""
        if self.num_views == 1:
            return self.forward(model, self.to_input(batch))
        # View by view, so that many of them take no more memory than one.
        views = [{key: x[:, i] if key != "label" else x for key, x in batch.items()} for i in range(self.num_views)]
        each = [self.forward(model, self.to_input(view)) for view in views]
        mean = torch.stack([self.probabilities(logits) for logits in each]).mean(0)
        return mean.logit(eps=1e-7) if self.multi_label else mean.clamp_min(1e-12).log()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the classes in float32, each by itself where a sample has several labels."""
        return logits.float().sigmoid() if self.multi_label else logits.float().softmax(-1)

    def metrics(self) -> Metrics:
        """Return new metrics."""
        kind = MultiLabelMetrics if self.multi_label else ClassificationMetrics
        return kind(len(self.classes), self.classes)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, the labels and the recipe."""
        assert isinstance(model, SavedModel)
        model.save_pretrained(folder)
        (folder / "labels.json").write_text(json.dumps(list(self.classes), indent=2), encoding="utf-8")
        (folder / "recipe.yaml").write_text(recipe_text(self.recipe), encoding="utf-8")

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote."""
        return load_classifier(folder, self.families)

    def plain_input(self) -> PlainInput:
        """Return what an exported model takes.

        Raises:
            ValueError: the task does not say it.
        """
        raise ValueError(f"{type(self).__name__} does not say what an exported model takes: it has no plain_input")

    def plain_model(self, model: nn.Module) -> PlainModel:
        """Return a model from the plain input to probabilities; errors as in `plain_input`."""
        plain = self.plain_input()
        return PlainModel(PlainClassifier(self, model, plain), plain, "probabilities", ("batch", "classes"))

    def parts(self, source: Path, seconds: float) -> Iterator[tuple[float, float, Batch]]:
        """Read a file in parts of about so many seconds, for a timeline.

        Yields:
            from when to when a part goes, in seconds, and what a model takes of it.

        Raises:
            ValueError: the modality knows no parts in time.
        """
        raise ValueError("--timeline is for sounds and videos; these files have no parts in time")

    def play(self, x: Tensor, path: Path) -> Path | None:
        """Write the `input` of an example to a file that a browser plays, if that says more than `draw`.

        Args:
            x: one view of a sample.
            path: where to write it, without a suffix.

        Returns:
            the file, or None if there is none.
        """
        return None

    def write_samples(self, model: nn.Module, split: Split, path: Path, *, count: int = 24) -> list[Path]:
        """Draw `count` samples of a split, spread over its classes, with the model's predictions.

        Returns:
            files that play them, if there are any, in a folder beside the picture.
        """
        return write_sample_sheet(self, model, split, path, count)


def equal_spans(total: float, seconds: float) -> list[tuple[float, float]]:
    """Cut a length of time into equal parts, the nearest to so many seconds that fill it."""
    count = max(round(total / seconds), 1)
    return [(total * i / count, total * (i + 1) / count) for i in range(count)]


class SampleDataset(Dataset[Batch]):
    """Samples of a classification task as dicts with `input` and `label`."""

    def __init__(self, task: ClassificationTask, samples: Sequence[tuple[Any, Any]], *, training: bool) -> None:
        self.task = task
        self.samples = samples
        self.training = training
        self.uses_randomness = training and task.uses_randomness
        self.kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        example = self.task.example(self._raw(index), training=self.training)
        return example | {"label": self.task.target(self.samples[index][1])}

    def _raw(self, index: int) -> Tensor:
        if index in self.kept:
            return self.kept[index]
        raw = self.task.load_sample(self.samples[index][0], training=self.training)
        if self.task.cache:
            self.kept[index] = raw
        return raw
