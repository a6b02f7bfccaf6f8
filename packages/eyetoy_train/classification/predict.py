"""Predict the classes of files, or of parts of them, and write the predictions."""

from __future__ import annotations

import csv
import itertools
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from eyetoy_train.classification.task import ClassificationTask, Timeline
from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.models.opened import best_device
from eyetoy_train.models.saved import ExternalModel
from eyetoy_train.recipe import check
from eyetoy_train.types import Batch
from eyetoy_train.utils.console import log
from eyetoy_train.utils.text import shown


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a file, or of a part of one, with their probabilities, the best first."""

    file: str
    """Its name; empty for an array."""
    span: dict[str, float]
    """`start` and `end` of the part, in seconds; empty for a whole file."""
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    views: int = 1
    """How many parts of it, such as windows of a long sound, were averaged, where that differs between files."""
    views_called: str = "views"
    """What these are."""

    @property
    def label(self) -> str:
        """The most probable class.

        Raises:
            ValueError: there is none; see `probability`.
        """
        return self._best[0]

    @property
    def probability(self) -> float:
        """The probability of the most probable class.

        Raises:
            ValueError: no class is as probable as the threshold of a model of any number of labels.
        """
        return self._best[1]

    @property
    def ranked(self) -> Iterator[tuple[str, float]]:
        """Classes and probabilities in pairs."""
        return zip(self.classes, self.probabilities, strict=True)

    @property
    def _best(self) -> tuple[str, float]:
        if not self.classes:
            raise ValueError("no class is as probable as the threshold; `classes` is empty")
        return self.classes[0], self.probabilities[0]


class Piece(NamedTuple):
    """An input of the classifier: a file, or a part of one."""

    file: str
    span: dict[str, float]
    example: Batch


def choose_classes(
    task: ClassificationTask, top_k: int | None, threshold: float | None, *, prefix: str = ""
) -> tuple[int, float]:
    """Return how many classes of a sample to name at most, and from which probability on.

    Args:
        task: the task of the model.
        top_k: what is asked for; by default 5, or all above the threshold where a sample has any number of labels.
        threshold: likewise; by default 0.5 there, or 0 with a `top_k`.
        prefix: what comes before the names of the two in errors.

    Raises:
        ValueError: there is a threshold, and a sample has one label; or a number is out of its range.
    """
    if threshold is not None and not task.multi_label:
        raise ValueError(
            f"{prefix}threshold is for models of any number of labels, and this one gives a sample one; take "
            f"{prefix}top_k"
        )
    check(threshold is None or 0 <= threshold <= 1, f"{prefix}threshold", threshold, "from 0 to 1")
    check(top_k is None or top_k >= 1, f"{prefix}top_k", top_k, "at least 1")
    if not task.multi_label:
        return 5 if top_k is None else top_k, 0.0
    if threshold is None:
        threshold = 0.5 if top_k is None else 0.0
    return sys.maxsize if top_k is None else top_k, threshold


class LoadedClassifier:
    """A trained model with its preprocessing and labels, on this machine's accelerator if no device is given."""

    def __init__(
        self,
        task: ClassificationTask,
        model: nn.Module,
        labels: Sequence[str],
        device: torch.device | None = None,
    ) -> None:
        self.task = task
        self.model = model.to(device or best_device()).eval()
        self.labels = labels
        self.skipped: list[Path] = []
        """Files that could not be read, or not to the end."""

    def predict(
        self,
        files: Sequence[Path],
        top_k: int,
        batch_size: int = 32,
        *,
        timeline: float | None = None,
        threshold: float = 0.0,
    ) -> Iterator[Prediction]:
        """Classify files, or parts of them.

        A file that cannot be read is named on stderr and left out.

        Args:
            files: the files.
            top_k: number of classes for each.
            batch_size: number of files, or parts, classified at a time.
            timeline: length of the parts in seconds, roughly; None for whole files.
            threshold: least probability of a class; a file may have none then.
        """
        # A generator: a batch is in memory at a time, and the parts of one file may span several batches.
        pieces = (piece for file in files for piece in self.read(file, timeline))
        yield from self.answer(pieces, top_k, batch_size, threshold)

    def answer(
        self, pieces: Iterator[Piece], top_k: int, batch_size: int, threshold: float = 0.0
    ) -> Iterator[Prediction]:
        """Classify what was read; arguments as in `predict`."""
        while batch := list(itertools.islice(pieces, batch_size)):
            for piece, probabilities in zip(batch, self.classify([piece.example for piece in batch]), strict=True):
                best = probabilities.topk(min(top_k, len(self.labels)))
                pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                found = [(self.labels[i], round(p, 4)) for i, p in pairs if p >= threshold]
                classes, rounded = tuple(name for name, _ in found), tuple(p for _, p in found)
                views = int(piece.example.get("views", 1))
                yield Prediction(piece.file, piece.span, classes, rounded, views, self.task.views_called)

    def read(self, file: Path, timeline: float | None = None) -> Iterator[Piece]:
        """Yield a file, or its parts; nothing if it cannot be read, after it was named on stderr."""
        try:
            if timeline is None:
                raw = self.task.load_sample(file, training=False)
                yield Piece(str(file), {}, self.task.example(raw, training=False))
            else:
                assert isinstance(self.task, Timeline)
                for start, end, example in self.task.parts(file, timeline):
                    yield Piece(str(file), {"start": round(start, 3), "end": round(end, 3)}, example)
        except (UnreadableFileError, OSError) as error:
            self.skipped.append(file)
            log(f"skipped: {error}", file=sys.stderr)

    @torch.inference_mode()
    def classify(self, examples: Sequence[Batch]) -> Tensor:
        """Return the probabilities of examples, `[examples, classes]`."""
        return self.task.probabilities(self._outputs(examples)).cpu()

    @torch.inference_mode()
    def embed(self, examples: Sequence[Batch]) -> Tensor:
        """Return what the model's head sees of examples, the encoder's context, float32 `[examples, channels]`.

        The contexts of several views of a sample are averaged.

        Raises:
            ValueError: the model does not tell which layer is its head.
        """
        seen: list[Tensor] = []
        thread = threading.get_ident()

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == thread:  # the hook is called for the passes of other threads as well
                seen.append(inputs[0])

        handle = _head(self.model).register_forward_pre_hook(keep)
        try:
            self._outputs(examples)
        finally:
            handle.remove()
        if any("views" in example for example in examples):  # the views of an example after those of the one before
            counts = [int(example.get("views", 1)) for example in examples]
            vectors = torch.stack([x.mean(0) for x in torch.split(torch.cat(seen).float(), counts)])
        else:
            vectors = torch.stack(seen).float().mean(0)  # of views, which the task hands to the model one after another
        if vectors.ndim != 2:
            raise ValueError(
                f"the head of this model sees {list(vectors.shape)}, where a vector for each sample was expected"
            )
        return vectors.cpu()

    def _outputs(self, examples: Sequence[Batch]) -> Tensor:
        batch = send_to_device(self.task.collate(examples), next(self.model.parameters()).device)
        return self.task.outputs(self.model, batch)


def _head(model: nn.Module) -> nn.Module:
    """Return the last layer of a model of this project or of timm."""
    inner = model.model if isinstance(model, ExternalModel) else model
    get: Any = getattr(inner, "get_classifier", None)
    head = get() if get is not None else None
    if not isinstance(head, nn.Module):
        raise ValueError(
            f"a {type(inner).__name__} does not tell its last layer, by get_classifier() as this project's and timm's "
            "models do, so that there are no vectors of it"
        )
    return head


def write_predictions(predictions: Iterable[Prediction], output: Path | None) -> None:
    """Write predictions to a .json or .csv file, or print a line for each."""
    if output is None:
        for prediction in predictions:
            when = ["{start:.1f}-{end:.1f} s".format(**prediction.span)] if prediction.span else []
            when += [f"({prediction.views} {prediction.views_called})"] if prediction.views > 1 else []
            classes = [f"{name} {p:.1%}" for name, p in prediction.ranked] or ["none"]
            log(shown("  ".join([prediction.file, *when, *classes])))  # one line, whatever the names hold
    elif output.suffix == ".json":
        rows = [
            {"file": p.file, **p.span, **_views(p), "classes": p.classes, "probabilities": p.probabilities}
            for p in predictions
        ]
        output.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    else:
        found = list(predictions)
        views = {p.views_called: 1 for p in found if p.views > 1}  # a column if any file needs it
        rows = [row for prediction in found for row in _rows(prediction, views)]
        with output.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["file", "rank", "class", "probability"])
            writer.writeheader()
            writer.writerows(rows)


def _views(prediction: Prediction) -> dict[str, int]:
    return {prediction.views_called: prediction.views} if prediction.views > 1 else {}


def _rows(prediction: Prediction, views: dict[str, int]) -> list[dict[str, Any]]:
    """Return a row for each class; one without a class for a file that has none, so that it is not missing."""
    start = {"file": prediction.file, **prediction.span, **views, **_views(prediction)}
    ranked = enumerate(prediction.ranked, 1)
    rows = [{**start, "rank": rank, "class": name, "probability": p} for rank, (name, p) in ranked]
    return rows or [{**start, "rank": "", "class": "", "probability": ""}]
