"""Figures of a run: its curves, its confusion matrix, and samples with predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eyetoy_train.utils.figures import families, save_figure
from eyetoy_train.utils.text import drawn

MOST_CLASSES_NUMBERED = 40
MOST_CLASSES_NAMED = 100
"""Of more, every second, third, ... is named at the axes: names must not overlap."""
RIGHT, WRONG = "#1a7f37", "#cf222e"
LONGEST_NAME = 20
"""Of a class, above a sample: titles of neighbors must not overlap."""
LONGEST_TITLE = 26
"""Of a line above a sample that says what it is."""
MOST_MARKED = 30
"""Most points of a curve that are marked one by one."""
TRAINED, PARTS = "train_", "train_loss_"
"""How keys of the training's values begin in metrics.jsonl, and those of the parts of the loss."""


def draw_curves(lines: Sequence[dict[str, Any]], score: str, path: Path) -> None:
    """Draw loss, validation score and gradient norm over epochs to a PNG file, and the parts of a loss of several.

    Args:
        lines: those of metrics.jsonl, one for each epoch; an epoch without an evaluation has no `val`.
        score: name of the validation score to draw.
        path: the file to write.
    """
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    parts = list(dict.fromkeys(key.removeprefix(TRAINED) for line in lines for key in line if key.startswith(PARTS)))
    if len(parts) > 1:
        figure.set_size_inches(13, 6.6)
        (loss_axes, score_axes), (part_axes, norm_axes) = figure.subplots(2, 2)
        _plot_parts(part_axes, lines, parts)
    else:
        loss_axes, score_axes, norm_axes = figure.subplots(1, 3)
    _plot(loss_axes, points(lines, "train_loss"), label="training")
    # A loss of one part is that part, also where the evaluation measures it under its own name.
    for name in ("loss", *(parts if len(parts) == 1 else ())):
        _plot(loss_axes, points(lines, name, val=True), label="validation")
    loss_axes.set(xlabel="epoch", ylabel="loss")
    scored = points(lines, score, val=True)
    _plot(score_axes, scored, color="tab:green")
    if not scored:
        score_axes.text(0.5, 0.5, "no evaluation was made", transform=score_axes.transAxes, ha="center", va="center")
    score_axes.set(xlabel="epoch", ylabel=f"validation {score}")
    _plot(norm_axes, points(lines, "grad_norm"), label="mean", color="tab:purple")
    _plot(norm_axes, points(lines, "grad_norm_max"), label="largest", color="tab:pink")
    norm_axes.set(xlabel="epoch", ylabel="gradient norm", yscale="log")
    for axes in (loss_axes, norm_axes):
        axes.legend(frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.set_xlim(*_whole_run(lines))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # by default two, also for one epoch
    save_figure(figure, path)


def points(lines: Sequence[dict[str, Any]], name: str, *, val: bool = False) -> list[tuple[int, float]]:
    """Return the epochs of lines of metrics.jsonl that have a value of a name, and the value.

    Args:
        lines: the lines.
        name: a key of a line.
        val: whether it is a key of the line's scores of the validation set.
    """
    holders = [(line["epoch"], line.get("val", {}) if val else line) for line in lines]
    return [(epoch, holder[name]) for epoch, holder in holders if name in holder]


def _plot_parts(axes: Axes, lines: Sequence[dict[str, Any]], parts: Sequence[str]) -> None:
    """Draw each part of the loss in a colour of its own, dashed with open points where the evaluation measures it."""
    dashed = False
    for number, name in enumerate(parts):
        color, val = f"C{number}", points(lines, name, val=True)
        _plot(axes, points(lines, f"{TRAINED}{name}"), label=name, color=color)
        _plot(axes, val, color=color, linestyle="--", markerfacecolor="white")
        dashed = dashed or bool(val)
    axes.set(xlabel="epoch", ylabel="parts of the loss" + (" (dashed, open: validation)" if dashed else ""))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))  # room above the curves for the names of many
    axes.legend(frameon=False, loc="upper center", ncols=3, fontsize=8.5)


def _plot(axes: Axes, found: Sequence[tuple[int, float]], **style: Any) -> None:
    """Draw points as a line; the points themselves, too, where they are few: a line through one is invisible."""
    if found:
        axes.plot(*zip(*found, strict=True), marker="o" if len(found) <= MOST_MARKED else None, markersize=4, **style)


def _whole_run(lines: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return limits of the epochs' axis: the same in every panel, also where only some epochs have a value."""
    epochs = [line["epoch"] for line in lines] or [1]
    margin = max(0.05 * (max(epochs) - min(epochs)), 0.2)
    return min(epochs) - margin, max(epochs) + margin


def draw_confusion(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path, *, title: str | None = None
) -> None:
    """Draw a confusion matrix to a PNG file, shaded by each row's shares, so that rare classes are as visible.

    Args:
        confusion: counts, `[truth][prediction]`.
        classes: their names.
        path: the file to write.
        title: what is counted, if it is not samples.
    """
    size = min(max(3.5, 0.42 * len(classes) + 1.5), 14)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    named = range(0, len(classes), -(-len(classes) // MOST_CLASSES_NAMED))
    names = [drawn(classes[i]) for i in named]
    fonts = families("".join(names))
    axes.set_xticks(named, names, rotation=90, fontsize=8, fontfamily=fonts)
    axes.set_yticks(named, names, fontsize=8, fontfamily=fonts)
    axes.set(xlabel="prediction", ylabel="truth")
    if title is not None:
        axes.set_title(title, fontsize=9, wrap=True)
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            if count and len(classes) <= MOST_CLASSES_NUMBERED:
                color = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, str(count), ha="center", va="center", fontsize=7, color=color)
    save_figure(figure, path)


@dataclass(frozen=True)
class LabelledSample:
    """A sample with its true and its predicted class."""

    draw: Callable[[Axes], None]
    truth: str
    prediction: str
    confidence: float
    is_right: bool


@dataclass(frozen=True)
class TitledSample:
    """A sample and what it is."""

    draw: Callable[[Axes], None]
    title: str


def draw_titled(samples: Sequence[TitledSample], path: Path, *, columns: int = 6) -> None:
    """Draw samples in a grid to a PNG file, each with its title."""
    figure, grid = _sample_grid(len(samples), columns)
    for axes, sample in zip(grid, samples, strict=False):
        sample.draw(axes)
        lines = [drawn(line, LONGEST_TITLE) for line in sample.title.split("\n")]
        axes.set_title("\n".join(lines), y=1.02, fontsize=9, fontfamily=families("".join(lines)))
    save_figure(figure, path)


def draw_samples(samples: Sequence[LabelledSample], path: Path, *, columns: int = 6) -> None:
    """Draw samples in a grid to a PNG file; a wrong prediction is red and names the truth."""
    figure, grid = _sample_grid(len(samples), columns)
    for axes, sample in zip(grid, samples, strict=False):
        sample.draw(axes)
        title = f"{drawn(sample.prediction, LONGEST_NAME)}  {sample.confidence:.0%}"
        title += "" if sample.is_right else f"\nis {drawn(sample.truth, LONGEST_NAME)}"
        color = RIGHT if sample.is_right else WRONG
        axes.set_title(title, y=1.02, fontsize=9, color=color, fontfamily=families(title))
    save_figure(figure, path)


def _sample_grid(count: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with places for `count` samples and their titles."""
    rows = -(-count // columns)
    # Margins by hand: a constrained layout would shrink all images where one title has two lines.
    figure = Figure(figsize=(1.9 * columns, 2.3 * rows))
    places = {"left": 0.01, "right": 0.99, "bottom": 0.1 / rows, "top": 1 - 0.3 / rows, "wspace": 0.08, "hspace": 0.35}
    grid = list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=places).flat)
    for axes in grid:
        axes.set_axis_off()
    return figure, grid
