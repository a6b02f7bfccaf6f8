"""The prediction over a long sound or video: part by part, each as long as what the model takes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyetoy_demo.parts import AT_ONCE, Length, read_parts
from eyetoy_train.types import Modality
from eyetoy_train.utils.figures import families
from eyetoy_train.utils.text import drawn

MOST_LINES = 5
WHOLE = {"audio": "windows of the whole sound", "video": "frames of the whole video"}
"""What a task takes for its own prediction of a file, unless it takes a fixed number of windows."""


@dataclass(frozen=True)
class Timeline:
    """Probabilities over time."""

    spans: Sequence[tuple[float, float]]
    """Start and end of each part, in seconds."""
    probabilities: NDArray[np.float32]
    """`[parts, classes]`."""
    labels: Sequence[str]

    @property
    def classes(self) -> list[tuple[str, float]]:
        """The most probable classes of the whole file, by the mean over its parts."""
        mean = self.probabilities.mean(0)
        return [(self.labels[place], float(mean[place])) for place in np.argsort(-mean, kind="stable")[:MOST_LINES]]

    @property
    def edges(self) -> list[float]:
        """Start and end of each curve's steps, in seconds: two parts that overlap meet in the middle of the overlap."""
        borders = [(end + start) / 2 for (_, end), (start, _) in itertools.pairwise(self.spans)]
        return [self.spans[0][0], *borders, self.spans[-1][1]]


def timeline(viewer: Any, file: Path, length: Length) -> Timeline | None:
    """Return the predictions for the parts of a file; None if it has only one.

    Args:
        viewer: a `ClassifierView` of sounds or videos.
        file: the file.
        length: its length, see `length_of`.

    Raises:
        UnreadableFileError: the file cannot be decoded.
        OSError: the file cannot be read.
    """
    if length.count < 2:
        return None
    parts, rows = read_parts(viewer.task, file, length), []
    while some := list(itertools.islice(parts, AT_ONCE)):
        rows.append(viewer.classifier.classify(some).numpy())
    return Timeline(length.spans, np.concatenate(rows), viewer.classifier.labels)


def sentence_of(length: Length, modality: Modality) -> str:
    """Say how a file was taken apart."""
    parts = f"{length.count} parts of {length.part:.3g} s, evenly spaced over all {length.total:.3g} s."
    # The windows of a sound are these parts, unless they would be too many.
    if length.views is None and (modality == "video" or length.has_long_parts):
        return f"The prediction is of {WHOLE[modality]}; the curves are of {parts}"
    judged = f"The prediction is the mean over {parts}"
    if length.views is not None and (taken := length.views * length.window) < length.part:
        return f"{judged} The model takes {taken:.3g} s of each."
    return judged


def draw_timeline(found: Timeline) -> Figure:
    """Draw the classes that are most probable anywhere over the seconds of a file."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes, edges = figure.subplots(), found.edges
    best = np.argsort(-found.probabilities.max(0), kind="stable")[:MOST_LINES]
    curves = [axes.stairs(100 * found.probabilities[:, place], edges, baseline=None, linewidth=2) for place in best]
    axes.set(xlim=(edges[0], edges[-1]), ylim=(-2, 102), xlabel="seconds", ylabel="probability, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    _put_legend(figure, curves, [found.labels[place] for place in best])
    return figure


def _put_legend(figure: Figure, curves: Sequence[Artist], labels: Sequence[str]) -> None:
    """Name curves below a figure, in as many columns as its width has room for."""
    names = [drawn(label, 24) for label in labels]
    fonts = {"family": families("".join(names)), "size": 10}
    for columns in range(len(names), 0, -1):
        # Below: the page lays its buttons over the upper right corner.
        legend = figure.legend(
            curves, [""] * len(names), loc="outside lower center", ncols=columns, frameon=False, prop=fonts
        )
        # Afterwards: matplotlib before 3.10 leaves out labels that begin with _.
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(name)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()
