"""The parts of a long sound or video, each as long as what the model takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eyetoy_train.classification.task import ClassificationTask
from eyetoy_train.classification.task import Timeline as HasParts
from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.media.errors import NotVideoError
from eyetoy_train.media.video import decode, open_video
from eyetoy_train.types import Batch

MOST_PARTS = 240
"""A longer file has longer parts."""
AT_ONCE = 16
"""Parts that are read, or given to the model, at once."""
SPARE = 0.1
"""A rest shorter than this fraction of the model's input adds no part, as it adds no window in the audio app."""
SILENCE = 1e-4
"""Root mean square below which a sound is silent, as for the audio app."""


@dataclass(frozen=True)
class Length:
    """How long a file is, and what the model takes of it at a time, in seconds."""

    total: float
    window: float
    views: int | None = 1
    """How many windows the task takes of a file; None if it takes of all of it, so that its prediction is kept."""
    remark: str = ""
    """A sentence about a file from which the model can tell nothing."""

    @property
    def has_long_parts(self) -> bool:
        """Whether parts as long as the model's input would be too many."""
        return self.total / self.window - SPARE > MOST_PARTS

    @property
    def count(self) -> int:
        """Number of parts."""
        return MOST_PARTS if self.has_long_parts else max(math.ceil(self.total / self.window - SPARE), 1)

    @property
    def part(self) -> float:
        """Length of a part, in seconds."""
        return self.total / MOST_PARTS if self.has_long_parts else self.window

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Start and end of each part, evenly spaced from the start of the file to its end."""
        # For example 1.2 s in parts of 1 s: from 0 to 1 s, and from 0.2 to 1.2 s.
        step = (self.total - self.part) / max(self.count - 1, 1)
        return [(step * number, step * number + self.part) for number in range(self.count)]


def length_of(task: Any, file: Path) -> Length | None:
    """Return how long a file is for a task; None where files have no length.

    Raises:
        UnreadableFileError: the file cannot be decoded.
        OSError: the file cannot be read.
    """
    if not (isinstance(task, ClassificationTask) and isinstance(task, HasParts)):
        return None
    data: Any = getattr(task, "data")  # noqa: B009 - of the audio and the video app's tasks
    if _is_of_sounds(task):
        waveform = task.load_sample(file, training=False)
        level = float(waveform.square().mean().sqrt()) if waveform.numel() else 0.0
        remark = "This sound is silent: what the model says of it means nothing." if level < SILENCE else ""
        return Length(waveform.shape[-1] / data.sample_rate, data.seconds, task.num_views, remark)
    with open_video(file) as video:
        seconds, rate, count = video.index.seconds, video.index.rate, len(video.index)
    remark = "" if count > 1 else "This video has a single frame, so that nothing moves in it."
    window = data.num_frames * (data.frame_stride or 1) / (data.frame_rate or rate)
    return Length(seconds, window, None if data.frame_stride is None else data.clips, remark)


def read_parts(task: Any, file: Path, length: Length) -> Iterator[Batch]:
    """Read a file, and yield its parts, each preprocessed as a whole file in an evaluation.

    Args:
        task: the task of a classifier of sounds or videos.
        file: the file.
        length: its length, see `length_of`.

    Raises:
        UnreadableFileError: the file cannot be decoded.
        OSError: the file cannot be read.
    """
    return (_parts_of_sound if _is_of_sounds(task) else _parts_of_video)(task, file, length)


def _is_of_sounds(task: Any) -> bool:
    return hasattr(task.data, "sample_rate")


def _parts_of_sound(task: Any, file: Path, length: Length) -> Iterator[Batch]:
    waveform, rate = task.load_sample(file, training=False), task.data.sample_rate
    for start, _ in length.spans:
        first = round(start * rate)
        # Not to the rounded end: the part could be a sample longer than the model's input.
        yield task.example(waveform[:, first : first + round(length.part * rate)], training=False)


def _parts_of_video(task: Any, file: Path, length: Length) -> Iterator[Batch]:
    data, spans = task.data, length.spans
    try:
        with open_video(file) as video:
            for first in range(0, len(spans), AT_ONCE):
                parts = [task.evaluation_sampling.numbers(video.index, span) for span in spans[first : first + AT_ONCE]]
                # Parts overlap, and each frame is decoded once, in the order of the file.
                wanted = sorted({number for numbers in parts for number in numbers})
                frames = decode(video, wanted, data.decoder, data.transform.size)
                for numbers in parts:
                    yield task.example(frames[np.searchsorted(wanted, numbers)], training=False)
    except NotVideoError as error:
        raise UnreadableFileError(f"{file}: {error}") from error
