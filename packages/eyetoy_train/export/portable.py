"""Models as they are exported: from a user's data, pixels or samples, to a user's answer, probabilities.

A task can be exported if it has the methods of `Exportable`, or, for a classifier, those of `ExportableClassifier`.
Both are optional.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from eyetoy_train.types import Batch


@dataclass(frozen=True, kw_only=True)
class ExportInput:
    """The input of an exported model: data as a user has them, before any arithmetic."""

    name: str
    """Name of the input, such as `pixels`."""
    axes: tuple[str, ...]
    """Names of its axes, such as `("batch", "height", "width", "channels")`."""
    varying: tuple[str, ...] = ("batch",)
    """Those of the axes that may have any size."""
    examples: Sequence[Tensor]
    """Made-up inputs that differ along every axis that varies. The first is traced, all are compared."""
    prepare: Callable[[Tensor], Batch]
    """Does for a whole batch what the task's `example` does for a sample, by tensor operations that can be exported."""
    views: int = 1
    """How many rows of a batch `prepare` makes of a sample, one after another; their probabilities are averaged."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """How to make the input from a file (sizes, sample rate), and what the model does by itself; for model.json."""


@dataclass(frozen=True)
class ExportModel:
    """A module from an exported model's input to its output."""

    module: nn.Module
    input: ExportInput
    output: str
    """Name of the output, such as `probabilities`."""
    output_axes: tuple[str, ...]
    """Names of its axes."""


@runtime_checkable
class Exportable(Protocol):
    """A task that says itself how its models are exported."""

    def export_model(self, model: nn.Module) -> ExportModel:
        """Return a model with its preprocessing inside.

        Raises:
            ValueError: it cannot be exported; the message says what to do instead.
        """


@runtime_checkable
class ExportableClassifier(Protocol):
    """A classification task that says what its exported models take; they give probabilities."""

    def export_input(self) -> ExportInput:
        """Return what an exported model takes."""

    def to_input(self, batch: Batch) -> Batch:
        """Turn what `ExportInput.prepare` returns into the model's input."""

    def model_args(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the model is called with."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the classes, `[batch, classes]`."""


class ClassifierWithPreprocessing(nn.Module):
    """Map a task's `export_input` to probabilities `[batch, classes]`, as an evaluation does."""

    def __init__(self, task: ExportableClassifier, model: nn.Module, given: ExportInput) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.given = given

    def forward(self, x: Tensor) -> Tensor:
        """Return the probabilities of the classes."""
        batch = self.task.to_input(self.given.prepare(x))
        probabilities = self.task.probabilities(self.model(*self.task.model_args(batch)))  # [batch * views, classes]
        return probabilities.view(-1, self.given.views, probabilities.shape[-1]).mean(1)


def model_to_export(task: object, model: nn.Module) -> ExportModel:
    """Return a task's model with its preprocessing inside, for `export`.

    Args:
        task: an `Exportable` or an `ExportableClassifier`. Their methods' older names, `plain_model` and `plain_input`,
            still work, with a warning.
        model: one of the task's models.

    Raises:
        ValueError: the task has none of these methods; where it has the text `why_not_exportable`, that says why.
    """
    for old, new in (("plain_model", "export_model"), ("plain_input", "export_input")):
        if hasattr(task, old):  # also where a base class has the new name: only a user's own class has the old one
            warnings.warn(f"rename {type(task).__name__}.{old} to {new}", FutureWarning, stacklevel=2)
            setattr(task, new, getattr(task, old))
    if isinstance(task, Exportable):
        return task.export_model(model)
    if not isinstance(task, ExportableClassifier):
        why = getattr(
            task, "why_not_exportable", "it has neither export_input, enough for a classifier, nor export_model"
        )
        raise ValueError(f"a model of {type(task).__name__} cannot be exported: {why}")
    given = task.export_input()
    return ExportModel(ClassifierWithPreprocessing(task, model, given), given, "probabilities", ("batch", "classes"))
