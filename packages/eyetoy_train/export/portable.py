"""Models as they are exported: from a user's data, pixels or samples, to a user's answer, probabilities.

A task can be exported if it has the methods of `Exportable`, or, for a classifier, those of `ExportableClassifier`.
Both are optional.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
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


PlainInput = ExportInput
"""The former name of `ExportInput`."""


def largest_difference(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> Tensor:
    """Return the largest difference of two results, `[1]`, relative to the expected one's largest value, or to 1.

    Raises:
        ValueError: their shapes differ.
    """
    found = [torch.zeros(())]
    for right, given in zip(expected, actual, strict=True):
        if given.shape != right.shape:
            raise ValueError(f"the exported model gave {list(given.shape)}, and the model itself {list(right.shape)}")
        if right.numel():
            # The batch's largest value, not each one's own: a probability of 1e-9 may be off by more than 1e-4 of it.
            scale = right.float().abs().max().clamp_min(1)
            found.append(((given.float() - right.float()).abs() / scale).nan_to_num(torch.inf).max())
    return torch.stack(found).max()[None]


@dataclass(frozen=True)
class ExportModel:
    """A module from an exported model's input to its output, or several."""

    module: nn.Module
    input: ExportInput
    output: str
    """Name of the output, such as `probabilities`; of several, the first."""
    output_axes: tuple[str, ...]
    """Names of its axes."""
    more_outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the other outputs, in order, and of their axes; the module then returns a tuple."""
    original: Callable[[Tensor], Sequence[Tensor]] | None = None
    """What the exported model is compared with, from an input to all outputs; the module itself if not given."""
    differences: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor] = largest_difference
    """Return how the exported model's outputs differ from the original's on an input, `[things]`: one number for all of
    them, or one for each thing that is found."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of model.json, such as thresholds."""

    @property
    def outputs(self) -> dict[str, tuple[str, ...]]:
        """Names of all outputs and of their axes."""
        return {self.output: self.output_axes, **self.more_outputs}


@runtime_checkable
class Exportable(Protocol):
    """A task that says itself how its models are exported."""

    def export_model(self, model: nn.Module) -> ExportModel:
        """Return a model with its preprocessing inside.

        Raises:
            ValueError: it cannot be exported; the message says what to do instead.
        """


@runtime_checkable
class ExportableAtSizes(Protocol):
    """A task that exports its models at several sizes of the input, each of them to a file."""

    exports_at_sizes: bool

    def export_model(
        self, model: nn.Module, *, size: tuple[int, int] | None = None, check_on: Sequence[Path] = ()
    ) -> ExportModel:
        """Return a model with its preprocessing inside, for a height and width, or the recipe's.

        The exported model is compared on the files of `check_on`, too.

        Raises:
            ValueError: it cannot be exported so; the message says what to do instead.
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


def model_to_export(
    task: object, model: nn.Module, *, size: tuple[int, int] | None = None, check_on: Sequence[Path] = ()
) -> ExportModel:
    """Return a task's model with its preprocessing inside, for `export`.

    Args:
        task: an `Exportable` or an `ExportableClassifier`. Their methods' older names, `plain_model` and `plain_input`,
            still work, with a warning.
        model: one of the task's models.
        size: height and width of the input, for an `ExportableAtSizes`; the recipe's if not given.
        check_on: files to compare the exported model on, for the same.

    Raises:
        ValueError: the task has none of these methods; where it has the text `why_not_exportable`, that says why. Or
            `size` or `check_on` is given, and it is no `ExportableAtSizes`.
    """
    for old, new in (("plain_model", "export_model"), ("plain_input", "export_input")):
        if hasattr(task, old):  # also where a base class has the new name: only a user's own class has the old one
            warnings.warn(f"rename {type(task).__name__}.{old} to {new}", FutureWarning, stacklevel=2)
            setattr(task, new, getattr(task, old))
    if size is not None or check_on:
        if not isinstance(task, ExportableAtSizes):
            raise ValueError(
                f"--sizes and --check_on are for detectors and segmenters; a model of {type(task).__name__} has one "
                "size, the recipe's, and is checked on made-up inputs: leave them out"
            )
        return task.export_model(model, size=size, check_on=check_on)
    if isinstance(task, Exportable):
        return task.export_model(model)
    if not isinstance(task, ExportableClassifier):
        why = getattr(
            task, "why_not_exportable", "it has neither export_input, enough for a classifier, nor export_model"
        )
        raise ValueError(f"a model of {type(task).__name__} cannot be exported: {why}")
    given = task.export_input()
    return ExportModel(ClassifierWithPreprocessing(task, model, given), given, "probabilities", ("batch", "classes"))
