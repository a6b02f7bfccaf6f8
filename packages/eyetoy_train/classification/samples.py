"""Choose samples for a figure of a model's predictions, and name their files."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from eyetoy_train.data.loading import size_of
from eyetoy_train.data.streaming import EvaluationStream
from eyetoy_train.report.figures import LabelledSample
from eyetoy_train.types import Batch, SampleStream
from eyetoy_train.utils.statistics import even_places

LONGEST = 200  # bytes of a name: file systems take 255, and a suffix follows


def spread_samples(dataset: Dataset[Batch] | SampleStream, count: int) -> list[Batch]:
    """Return samples spread evenly over a set, and so over its classes; the first ones of a stream."""
    if isinstance(dataset, SampleStream):
        return list(itertools.islice(EvaluationStream(dataset), count))
    return [dataset[place] for place in even_places(size_of(dataset), count)]


def source_name(source: Any, index: int) -> str:
    """Return the name of a sample for a list: the path of its file, or its place in a table."""
    return str(source) if isinstance(source, Path) else str(getattr(source, "place", f"sample {index}"))


def sample_file(folder: Path, number: int, sample: LabelledSample) -> Path:
    """Return a file name with a sample's classes, without suffix, that is valid on every file system."""
    classes = sample.truth if sample.is_right else f"{sample.truth}, taken for {sample.prediction}"
    # Names of classes may hold slashes, colons and the like.
    name = re.sub(r"[^\w, -]", "-", f"{number:02d} {classes}")
    return folder / name.encode()[:LONGEST].decode("utf-8", "ignore")
