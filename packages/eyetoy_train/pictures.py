"""Pictures of a run: its curves, and samples with predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RIGHT, WRONG = "#1a7f37", "#cf222e"


def draw_curves(lines: Sequence[dict[str, Any]], score: str, path: Path) -> None:
    """Draw loss and validation score over epochs, from the lines of metrics.jsonl, to a PNG file."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss_axes, score_axes = figure.subplots(1, 2)
    epochs = [line["epoch"] for line in lines]
    marker = "o" if len(epochs) == 1 else None
    loss_axes.plot(epochs, [line["train_loss"] for line in lines], label="training", marker=marker)
    loss_axes.plot(epochs, [line["val"]["loss"] for line in lines], label="validation", marker=marker)
    loss_axes.set(xlabel="epoch", ylabel="loss")
    loss_axes.legend(frameon=False)
    score_axes.plot(epochs, [line["val"][score] for line in lines], color="tab:green", marker=marker)
    score_axes.set(xlabel="epoch", ylabel=f"validation {score}")
    for axes in (loss_axes, score_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
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
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, sample in zip(grid, samples, strict=False):
        sample.draw(axes)
        right = sample.truth == sample.prediction
        title = sample.prediction if right else f"{sample.prediction} (is {sample.truth})"
        axes.set_title(f"{title}  {sample.confidence:.0%}", fontsize=9, color=RIGHT if right else WRONG)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
