"""The predictions and maps of a trained classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import default_collate

from eyetoy.inspect import find_encoder
from eyetoy_train.classification.predict import LoadedClassifier
from eyetoy_train.classification.task import ClassificationTask
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.types import Batch
from eyetoy_train.visualize.maps import InputMaps, collect_maps

TOP = 5
C = TypeVar("C", bound=ClassificationTask)


class ClassifierView(Generic[C]):
    """A trained classifier that returns predictions and maps of files.

    Args:
        opened: its checkpoint, see `App.open`.

    Raises:
        ValueError: the model has no EyeToy encoder.
    """

    def __init__(self, opened: Checkpoint[C]) -> None:
        self.task = opened.task
        self.classifier = LoadedClassifier(opened.task, opened.load_model(), opened.labels)
        self.encoder = find_encoder(self.classifier.model)

    def example(self, file: Path) -> Batch:
        """Return the task's example of a file."""
        return self.task.example(self.task.load_sample(file, training=False), training=False)

    def top(self, example: Batch) -> list[tuple[str, float]]:
        """Return the most probable classes."""
        probabilities = self.classifier.classify([example])[0]
        best = probabilities.topk(min(TOP, len(self.classifier.labels)))
        return [
            (self.classifier.labels[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def one_view(self, example: Batch) -> Batch:
        """Return the middle view of an example that has several."""
        return self.task.middle_view(example)

    def model_input(self, example: Batch) -> Tensor:
        """Return the model's input of one view, `[1, channels, *grid]`, with padding cut off."""
        batch = send_to_device(default_collate([example]), next(self.classifier.model.parameters()).device)
        batch = self.task.to_input(batch)
        x: Tensor = batch["input"]
        # Maps over padding would show nothing, and percentiles of colours would count it.
        return x[..., : int(batch["length"])] if "length" in batch else x

    def maps(self, example: Batch, at: Sequence[float], unit: str) -> InputMaps:
        """Return all maps of one view of an example; see `collect_maps`."""
        return collect_maps(self.encoder, self.model_input(example), at, unit)
