"""Figures of a run: its curves, its confusion matrix, and samples with predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eyetoy_train.utils.text import drawn

MOST_CLASSES_NUMBERED = 40
RIGHT, WRONG = "#1a7f37", "#cf222e"
LONGEST_NAME = 20
"""Of a class, above a sample: titles of neighbors must not overlap."""


def draw_curves(lines: Sequence[dict[str, Any]], score: str, path: Path) -> None:
    """Draw loss, validation score and gradient norm over epochs to a PNG file.

    Args:
        lines: those of metrics.jsonl, one for each epoch; an epoch without an evaluation has no `val`.
        score: name of the validation score to draw.
        path: the file to write.
    """
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    loss_axes, score_axes, norm_axes = figure.subplots(1, 3)
    epochs = [line["epoch"] for line in lines]
    scored = [line for line in lines if "val" in line]
    scored_epochs = [line["epoch"] for line in scored]
    marker = "o" if len(epochs) == 1 else None  # a line through one point is invisible
    loss_axes.plot(epochs, [line["train_loss"] for line in lines], label="training", marker=marker)
    if all("loss" in line["val"] for line in scored):  # detection and segmentation measure none
        loss_axes.plot(scored_epochs, [line["val"]["loss"] for line in scored], label="validation", marker=marker)
    loss_axes.set(xlabel="epoch", ylabel="loss")
    loss_axes.legend(frameon=False)
    score_axes.plot(scored_epochs, [line["val"][score] for line in scored], color="tab:green", marker=marker)
    score_axes.set(xlabel="epoch", ylabel=f"validation {score}")
    norm_axes.plot(epochs, [line["grad_norm"] for line in lines], label="mean", color="tab:purple", marker=marker)
    norm_axes.plot(epochs, [line["grad_norm_max"] for line in lines], label="largest", color="tab:pink", marker=marker)
    norm_axes.set(xlabel="epoch", ylabel="gradient norm", yscale="log")
    norm_axes.legend(frameon=False)
    for axes in (loss_axes, score_axes, norm_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # by default two, also for one epoch
    _write(figure, path)


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix to a PNG file, shaded by each row's shares, so that rare classes are as visible.

    Args:
        confusion: counts, `[truth][prediction]`.
        classes: their names.
        path: the file to write.
    """
    size = min(max(3.5, 0.42 * len(classes) + 1.5), 14)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [drawn(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="prediction", ylabel="truth")
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            if count and len(classes) <= MOST_CLASSES_NUMBERED:
                color = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, str(count), ha="center", va="center", fontsize=7, color=color)
    _write(figure, path)


@dataclass(frozen=True)
class LabelledSample:
    """A sample with its true and its predicted class."""

    draw: Callable[[Axes], None]
    truth: str
    prediction: str
    confidence: float


def draw_samples(samples: Sequence[LabelledSample], path: Path, *, columns: int = 6) -> None:
    """Draw samples in a grid to a PNG file; a wrong prediction is red and names the truth."""
    rows = -(-len(samples) // columns)
    # Margins by hand: a constrained layout would shrink all images where one title has two lines.
    figure = Figure(figsize=(1.9 * columns, 2.3 * rows))
    places = {"left": 0.01, "right": 0.99, "bottom": 0.1 / rows, "top": 1 - 0.3 / rows, "wspace": 0.08, "hspace": 0.35}
    grid = list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=places).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, sample in zip(grid, samples, strict=False):
        sample.draw(axes)
        right = sample.truth == sample.prediction
        title = f"{drawn(sample.prediction, LONGEST_NAME)}  {sample.confidence:.0%}"
        title += "" if right else f"\nis {drawn(sample.truth, LONGEST_NAME)}"
        axes.set_title(title, y=1.02, fontsize=9, color=RIGHT if right else WRONG)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # without pyplot, which keeps every figure and may look for a display
    figure.savefig(path, dpi=110)
