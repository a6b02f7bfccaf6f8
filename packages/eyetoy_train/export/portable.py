"""Models as they are exported: from what a user has, pixels or samples, to what a user wants, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from eyetoy_train.types import Batch

if TYPE_CHECKING:
    from eyetoy_train.classification.task import ClassificationTask


@dataclass(frozen=True, kw_only=True)
class PlainInput:
    """What an exported model takes: data as a user has them, before any arithmetic."""

    name: str
    """What it is, such as `pixels`."""
    axes: tuple[str, ...]
    """Names of its axes, such as `("batch", "height", "width", "channels")`."""
    varying: tuple[str, ...] = ("batch",)
    """Those of the axes that may have any size."""
    examples: Sequence[Tensor]
    """Made-up inputs that differ along every axis that varies. The first is traced, all are compared."""
    prepare: Callable[[Tensor], Batch]
    """Makes what `example` gives of a sample, for a whole batch and with tensors alone, so that it can be exported."""
    views: int = 1
    """How many rows of a batch `prepare` makes of a sample, one after another; their probabilities are averaged."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """What a user must know to make it of a file: sizes, sample rate, and what the model does by itself."""


@dataclass(frozen=True)
class PlainModel:
    """A module with what it takes and gives."""

    module: nn.Module
    input: PlainInput
    output: str
    """Name of what it gives, such as `probabilities`."""
    output_axes: tuple[str, ...]
    """Names of its axes."""


@runtime_checkable
class Exportable(Protocol):
    """A task whose models can be exported."""

    def plain_model(self, model: nn.Module) -> PlainModel:
        """Return a model with its preprocessing inside.

        Raises:
            ValueError: it cannot be exported; the message says what to do instead.
        """


def classifier_for_export(task: ClassificationTask, model: nn.Module, plain: PlainInput) -> PlainModel:
    """Return a classifier from its plain input to probabilities."""
    return PlainModel(PlainClassifier(task, model, plain), plain, "probabilities", ("batch", "classes"))


class PlainClassifier(nn.Module):
    """Map a task's plain input to probabilities `[batch, classes]`, as an evaluation does."""

    def __init__(self, task: ClassificationTask, model: nn.Module, plain: PlainInput) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        """Return the probabilities of the classes."""
        batch = self.task.to_input(self.plain.prepare(x))
        probabilities = self.task.probabilities(self.model(*self.task.model_args(batch)))
        return probabilities.view(-1, self.plain.views, probabilities.shape[-1]).mean(1)
