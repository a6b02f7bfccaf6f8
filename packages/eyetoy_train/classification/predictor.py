"""A trained classifier in Python: what the command `predict` says of a file, also of what is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from eyetoy_train.classification.predict import LoadedClassifier, Piece, Prediction, choose_classes
from eyetoy_train.classification.task import ClassificationTask, TakesArrays, Timeline
from eyetoy_train.models.opened import Checkpoint

C = TypeVar("C", bound=ClassificationTask)


class ClassifierPredictor(Generic[C]):
    """A model with its preprocessing and the names of its classes.

    Its methods take a file, an array, or a batch of them. A batch is a list or a tuple, and also an array with one
    axis more than a picture in color or a clip. What an array must be depends on what the model takes:

    - pictures: uint8 `[height, width, 3]`, `[height, width, 4]` with alpha, or grey `[height, width]`; or an image of
      Pillow
    - sounds: float32 or float64 `[samples]` or `[channels, samples]`, with `rate`, the samples per second
    - clips: uint8 `[time, height, width, 3]`; with `rate`, the frames per second, if the recipe has a
      `data.frame_rate`

    Args:
        opened: the checkpoint, from `App.open`.
        device: where the model is put; this machine's accelerator if there is one, by default.
    """

    def __init__(self, opened: Checkpoint[C], device: torch.device | str | None = None) -> None:
        place = None if device is None else torch.device(device)
        self.folder, self.task, self.labels = opened.folder, opened.task, opened.labels
        self._classifier = LoadedClassifier(opened.task, opened.load_model(place), opened.labels, place)
        self.model = self._classifier.model
        self.preprocessing = opened.task.preprocessing()
        """How samples become the model's input."""

    def predict(
        self,
        samples: Any,
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        batch_size: int = 32,
        rate: float | None = None,
        timeline: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Classify a sample, or a batch of them.

        Args:
            samples: see the class.
            top_k: number of classes for each, 5 by default.
            threshold: for a model of any number of labels, the least probability of a class: 0.5, or any with a
                `top_k`, by default. Then there are as many classes as are probable enough, perhaps none.
            batch_size: number of samples classified at a time.
            rate: see the class; all arrays of a batch have the same.
            timeline: classify parts of a file, of about so many seconds each, instead of the whole.

        Returns:
            the prediction of a sample, or a list for a batch or a timeline.

        Raises:
            UnreadableFileError: a file cannot be decoded.
            OSError: a file cannot be read.
            ValueError: an array is no such sample, or a number is out of range.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        most, least = choose_classes(self.task, top_k, threshold)
        each, is_batch = self._each(samples)
        pieces = (piece for sample in each for piece in self._pieces(sample, rate, timeline))
        found = list(self._classifier.answer(pieces, most, batch_size, least))
        return found if is_batch or timeline is not None else found[0]

    def embed(self, samples: Any, *, batch_size: int = 32, rate: float | None = None) -> Tensor:
        """Return the vector of a sample, float32 `[channels]`, or those of a batch, `[samples, channels]`.

        It is the encoder's context, which the classifier's head sees; arguments and errors as in `predict`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        each, is_batch = self._each(samples)
        found = []
        for start in range(0, len(each), batch_size):
            pieces = [
                piece for sample in each[start : start + batch_size] for piece in self._pieces(sample, rate, None)
            ]
            found.append(self._classifier.embed([piece.example for piece in pieces]))
        return torch.cat(found) if is_batch else found[0][0]

    def _each(self, samples: Any) -> tuple[Sequence[Any], bool]:
        """Return the samples of a batch, and whether it is one."""
        if isinstance(samples, list | tuple):
            each: Sequence[Any] = samples
        elif isinstance(samples, np.ndarray) and samples.ndim == getattr(self.task, "batched_axes", None):
            each = list(samples)
        else:
            return [samples], False
        if not each:
            raise ValueError("the batch is empty; give one sample or more")
        return each, True

    def _pieces(self, sample: Any, rate: float | None, timeline: float | None) -> Iterator[Piece]:
        is_file = isinstance(sample, str | Path)
        if is_file and rate is not None:
            raise ValueError(f"rate is for arrays, and the file {sample} tells its own; leave it out")
        if timeline is not None:
            if not is_file or not isinstance(self.task, Timeline):
                raise ValueError("timeline is for files of sounds and videos; leave it out")
            if not timeline > 0:
                raise ValueError(f"timeline must be above 0 seconds; got {timeline:g}")
            for start, end, example in self.task.parts(Path(sample), timeline):
                yield Piece(str(sample), {"start": round(start, 3), "end": round(end, 3)}, example)
            return
        if is_file:
            raw = self.task.load_sample(Path(sample), training=False)
        elif isinstance(self.task, TakesArrays):
            raw = self.task.load_array(sample, rate)
        else:
            raise ValueError(f"{type(self.task).__name__} reads files alone; got a {type(sample).__name__}")
        yield Piece(str(sample) if is_file else "", {}, self.task.example(raw, training=False))
