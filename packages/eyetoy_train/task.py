"""The seam between the engine and what it trains: all that the engine asks of a modality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from eyetoy_train.recipe import Recipe
from eyetoy_train.types import About, Batch, Details, SampleStream, Split, Table

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset


class Metrics(Protocol):
    """Sums over samples that give an evaluation's scores.

    The engine adds `sums` up over all processes and hands the total to `compute`, so that every sample counts once.
    """

    sums: dict[str, Tensor]

    def update(self, outputs: Any, batch: Batch) -> None:
        """Add the samples of one batch to `sums`. Its `index` has their places in the dataset; -1 in a stream."""

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores by name; `count` is the number of samples."""

    def details(self, sums: dict[str, Tensor], folder: Path) -> Details:
        """Return tables and figures behind the scores; the figures are written to `folder`."""


class Task(Protocol):
    """A modality and a goal: data, model, loss, metrics, and how a sample looks.

    Datasets, map-style or streams, return dicts of tensors that the default collate function can stack. A map-style
    dataset may have a method `collate` instead, which makes a batch of a list of samples, such as images of different
    sizes. It may have an attribute `balanced_labels`, the number of each sample's class, to have every class drawn
    equally often in training, and an attribute `digest`, a hash of its samples' names, by which a resumed run notices
    others. In a batch, a list has an entry for every sample.

    Random numbers of a training sample, or of the loss, must come from torch's global generator, which the engine seeds
    for each sample and each micro-batch. The engine also adds the seed of a training sample to it, as `seed`. Draw from
    these seeds (`eyetoy_train.utils.seeds.uniforms`) for a whole batch at once: the numbers are then the same however
    many processes share the batch.

    A task whose loss is a mean over something of which samples have different numbers, such as labelled pixels, may
    have a method `num_averaged(batch) -> float` that counts them in a batch on the CPU. Micro batches and processes are
    then weighed by it, so that the loss of a step is the mean over the whole step.

    A task whose loss is made of several may have an attribute `loss_parts`: a dict of detached scalars, such as
    `{"loss_mask": ...}`, which `loss` sets anew in each call. Their means are recorded beside the loss, and drawn in
    the report with the scores of the same names. All batches have the same parts.
    """

    @property
    def score(self) -> str:
        """Name of the metric by which the best epoch is chosen; higher is better."""

    @property
    def protocol(self) -> str:
        """The views of a sample that an evaluation uses, shown next to a score; empty where there is one way only."""

    @property
    def about(self) -> About:
        """Facts about the data and the task for the model card."""

    def prepare(self) -> None:
        """Write or fetch the data if they are missing.

        Called on the main process, then on one of every other machine, then on the others.
        """

    def dataset(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split, or None if the data have no such split."""

    def build_model(self) -> nn.Module:
        """Return a new model."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of a batch, a scalar."""

    def outputs(self, model: nn.Module, batch: Batch) -> Any:
        """Return the input of `Metrics.update`: tensors whose first axis is the sample, or lists of one entry each."""

    def metrics(self) -> Metrics:
        """Return new metrics."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write everything needed to use the model: weights, labels."""

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote."""

    def write_samples(self, model: nn.Module, split: Split, path: Path) -> Sequence[Path]:
        """Draw samples of a split with the model's predictions to an image file; return files that play them."""


@runtime_checkable
class Listing(Protocol):
    """A task that can list what a model has predicted for each sample."""

    def predictions(self, sums: dict[str, Tensor], split: Split) -> Table:
        """Return a row for each sample: file, truth, prediction, confidence; mistakes first, the surest of them first.

        Samples of a stream have no names, and so no rows.

        Args:
            sums: those of the task's metrics over the split.
            split: the split.
        """

    def write_mistakes(
        self, model: nn.Module, sums: dict[str, Tensor], split: Split, path: Path
    ) -> Sequence[Path] | None:
        """Draw the mistakes of which the model was surest to an image file; return files that play them.

        None without a mistake; nothing is then written.
        """


class LabelledTask(Task, Protocol):
    """A task with named classes."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels. Asked for after `prepare`."""
