"""Samples for a picture of what a model predicts: which ones, and what their files are called."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from torch.utils.data import Dataset

from eyetoy_train.data.loading import size_of
from eyetoy_train.data.streaming import EvaluationStream
from eyetoy_train.report.figures import LabelledSample
from eyetoy_train.types import Batch, SampleStream


def spread_samples(dataset: Dataset[Batch] | SampleStream, count: int) -> list[Batch]:
    """Return samples spread evenly over a set, and so over its classes; of a stream the first ones."""
    if isinstance(dataset, SampleStream):
        return list(itertools.islice(EvaluationStream(dataset), count))
    size = size_of(dataset)
    return [dataset[i] for i in range(0, size, max(size // count, 1))][:count]


def sample_file(folder: Path, number: int, sample: LabelledSample) -> Path:
    """Return a file name, without suffix, that tells a sample's classes and that every file system takes."""
    said = sample.truth if sample.prediction == sample.truth else f"{sample.truth}, taken for {sample.prediction}"
    return folder / re.sub(r"[^\w, -]", "-", f"{number:02d} {said}")
