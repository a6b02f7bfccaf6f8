"""The seam between the engine and what it trains: all that the engine asks of a modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from torch import Tensor, nn
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from eyetoy_train.data.streaming import SampleStream

Split = Literal["train", "val", "test"]
Batch = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    """A float is a share, shown in percent."""


@dataclass(frozen=True)
class Details:
    """What stands behind the scores, for a report."""

    tables: Sequence[Table] = ()
    pictures: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class About:
    """What the card of a trained model says beside its recipe and scores."""

    data: str = "data of its own"
    """What it was trained on, in the middle of a sentence; no path, since cards are published."""
    hub_dataset: str | None = None
    """The name of the data on Hugging Face's hub, if they are from there."""
    pipeline_tag: str = ""
    """The hub's name of the task, such as `image-classification`."""
    predict: str = "predict.py"
    """The script that tells what a model sees in files."""
    limits: Sequence[str] = ()
    """What the scores do not say, in sentences."""

    @classmethod
    def of_data(cls, kind: str, source: str, root: str, **said: Any) -> Self:
        """Describe data as `about_data` does, whose arguments these are, and say what else there is to say."""
        return cls(data=about_data(kind, source, root), hub_dataset=root if source == "hub" else None, **said)


def about_data(kind: str, source: str, root: str) -> str:
    """Return what data are: the name of a set, or the last part of a folder's or the hub's name.

    Args:
        kind: of files, such as `pictures`.
        source: the recipe's; the name of a set, but for `folder`, `hub` and the like.
        root: where they are.
    """
    if source == "hub":
        return f"{root}, a set of Hugging Face's hub"
    if source in ("folder", "list", "tagged", "webdataset"):
        return f"{kind} of the folder {Path(root).name}"
    return f"the set {source.replace('_', ' ')}"


class Metrics(Protocol):
    """Sums over samples that give an evaluation's scores.

    The engine adds `sums` up over all processes and hands the total to `compute`, so that every sample counts once.
    """

    sums: dict[str, Tensor]

    def update(self, outputs: Any, batch: Batch) -> None:
        """Add the samples of one batch to `sums`."""

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores by name; `count` is the number of samples."""

    def details(self, sums: dict[str, Tensor], folder: Path) -> Details:
        """Return what stands behind the scores, with its pictures written to a folder."""


class Task(Protocol):
    """A modality and a goal: data, model, loss, metrics, and how a sample looks.

    Datasets, map-style or streams, give dicts of tensors that the default collate function can stack; or a map-style
    one has a method `collate` that makes a batch of a list of samples, such as one with a list of pictures of different
    sizes. In a batch, a list has an entry for every sample. Whatever is random in a training sample, or in the loss,
    must be drawn from torch's global generator, which the engine seeds for each sample and each pass. It adds the
    sample's seed to a training sample, as `seed`: what a task draws from these for a whole batch at once
    (`eyetoy_train.utils.seeds.uniforms`) is the same however many processes share the batch.
    """

    @property
    def score(self) -> str:
        """The metric that says which epoch was best; higher is better."""

    @property
    def protocol(self) -> str:
        """How an evaluation looks at a sample, to be shown beside a score; empty where there is one way only."""

    @property
    def about(self) -> About:
        """What a card says of the data and the task."""

    def prepare(self) -> None:
        """Write or fetch the data if they are not there.

        Called on the main process, then on one of every other machine, then on the others.
        """

    def dataset(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split, or None if the data have no such split."""

    def build_model(self) -> nn.Module:
        """Return a new model."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of a batch, a scalar."""

    def outputs(self, model: nn.Module, batch: Batch) -> Any:
        """Return what `Metrics.update` takes: tensors whose first axis is the sample, or lists with one entry each."""

    def metrics(self) -> Metrics:
        """Return new metrics."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write all that is needed to use the model: weights, labels."""

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote."""

    def write_samples(self, model: nn.Module, split: Split, path: Path) -> Sequence[Path]:
        """Draw samples of a split with the model's predictions to a picture file; return files that play them."""
