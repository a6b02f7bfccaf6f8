"""The prediction over a long sound or video: part by part, each as long as what the model takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyetoy_train.classification.task import ClassificationTask
from eyetoy_train.classification.task import Timeline as HasParts
from eyetoy_train.media.video import open_video
from eyetoy_train.utils.text import drawn
from eyetoy_train.visualize.legend import families

MOST_PARTS = 240
"""A longer file has longer parts, of each of which the model hears or sees some."""
AT_ONCE = 16
MOST_LINES = 5
SPARE = 0.05
"""A file longer than the model's input by less than this part of it counts as one input."""
SILENCE = 1e-4
"""Root mean square below which a sound is silent, as for the audio app."""


@dataclass(frozen=True)
class Length:
    """How long a file is, and what the model takes of it at a time, in seconds."""

    total: float
    window: float
    is_whole: bool = False
    """Whether the model takes frames of all of it, so that its prediction is of the whole."""
    remark: str = ""
    """A sentence about a file from which the model can tell nothing."""

    @property
    def count(self) -> int:
        """Number of parts."""
        return min(max(math.ceil(self.total / self.window - SPARE), 1), MOST_PARTS)


@dataclass(frozen=True)
class Timeline:
    """Probabilities over time."""

    spans: Sequence[tuple[float, float]]
    """Start and end of each part, in seconds."""
    probabilities: NDArray[np.float32]
    """`[parts, classes]`."""
    labels: Sequence[str]
    window: float
    """What the model takes at a time, in seconds."""

    @property
    def classes(self) -> list[tuple[str, float]]:
        """The most probable classes of the whole file, by the mean over its parts."""
        mean = self.probabilities.mean(0)
        return [(self.labels[place], float(mean[place])) for place in np.argsort(-mean, kind="stable")[:MOST_LINES]]


def length_of(task: Any, file: Path) -> Length | None:
    """Return how long a file is for a task; None where files have no length.

    Raises:
        UnreadableFileError: the file cannot be decoded.
        OSError: the file cannot be read.
    """
    if not (isinstance(task, ClassificationTask) and isinstance(task, HasParts)):
        return None
    data: Any = getattr(task, "data")  # noqa: B009 - of the audio and the video app's tasks
    if hasattr(data, "sample_rate"):
        waveform = task.load_sample(file, training=False)
        level = float(waveform.square().mean().sqrt()) if waveform.numel() else 0.0
        remark = "This sound is silent: what the model says of it means nothing." if level < SILENCE else ""
        return Length(waveform.shape[-1] / data.sample_rate, data.seconds, remark=remark)
    with open_video(file) as video:
        seconds, rate, count = video.index.seconds, video.index.rate, len(video.index)
    remark = "" if count > 1 else "This video has a single frame, so that nothing moves in it."
    window = data.num_frames * (data.frame_stride or 1) / (data.frame_rate or rate)
    return Length(seconds, window, is_whole=data.frame_stride is None, remark=remark)


def timeline(viewer: Any, file: Path, length: Length) -> Timeline | None:
    """Return the predictions for the parts of a file; None if it has only one.

    Args:
        viewer: a `ClassifierView` of sounds or videos.
        file: the file.
        length: its length, see `length_of`.
    """
    if length.count < 2:
        return None
    parts = iter(viewer.task.parts(file, length.total / length.count))
    spans, rows = [], []
    while some := list(itertools.islice(parts, AT_ONCE)):
        spans += [(start, end) for start, end, _ in some]
        rows.append(viewer.classifier.classify([example for _, _, example in some]).numpy())
    return Timeline(spans, np.concatenate(rows), viewer.classifier.labels, length.window)


def sentence_of(found: Timeline, *, is_whole: bool) -> str:
    """Say how a file was taken apart."""
    end, size = found.spans[-1][1], found.spans[0][1] - found.spans[0][0]
    # More than that: parts were made longer, since there would be too many.
    skipped = f" The model takes {found.window:.3g} s of each." if size > found.window * (1 + 2 * SPARE) else ""
    whole = "The prediction is of frames of the whole video; the curves are of"
    judged = whole if is_whole else "The prediction is the mean over"
    return f"{judged} {len(found.spans)} parts of {size:.3g} s, which make up all {end:.3g} s.{skipped}"


def draw_timeline(found: Timeline) -> Figure:
    """Draw the classes that are most probable anywhere over the seconds of a file."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    best = np.argsort(-found.probabilities.max(0), kind="stable")[:MOST_LINES]
    edges = [found.spans[0][0], *(end for _, end in found.spans)]
    for place in best:
        values = 100 * found.probabilities[:, place]
        axes.stairs(values, edges, baseline=None, linewidth=2, label=drawn(found.labels[place], 24))
    axes.set(xlim=(edges[0], edges[-1]), ylim=(-2, 102), xlabel="seconds", ylabel="probability, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    fonts = families("".join(found.labels[place] for place in best))
    # Below: the page lays its buttons over the upper right corner.
    options: dict[str, Any] = {"frameon": False, "prop": {"family": fonts, "size": 10}}
    figure.legend(loc="outside lower center", ncols=len(best), **options)
    return figure
