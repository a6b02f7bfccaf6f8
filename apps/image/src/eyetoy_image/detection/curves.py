"""Curves of precision over recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from torch import Tensor

from eyetoy_image.figures import class_color
from eyetoy_train.commands.visualize import write_figure
from eyetoy_train.utils.figures import families
from eyetoy_train.utils.text import drawn

OVERLAPS = {0: 0.5, 5: 0.75}
"""The overlaps that are drawn, by their places in COCO's ten: 0.5, 0.55, ..., 0.95."""
MOST_CLASSES_DRAWN = 12
"""With more classes than this the mean is drawn alone."""
ON_WHITE = 0.75
"""Factor of a class's colour: the bright ones of figures over pictures are hard to see on white."""
RECALLS = torch.linspace(0, 1, 101)
"""The recalls at which COCO's evaluation takes the precision."""


def draw_precisions(curves: Mapping[str, Tensor], classes: Sequence[str], path: Path) -> None:
    """Draw the precision over recall to a PNG file: a row for boxes and one for masks, a column for each overlap.

    Args:
        curves: for boxes and for masks, the precisions `[overlap, recall, class]` of COCO's evaluation.
        classes: their names.
        path: the file to write.
    """
    figure = Figure(figsize=(4.6 * len(OVERLAPS) + 2, 3.8 * len(curves)), layout="constrained")
    rows = figure.subplots(len(curves), len(OVERLAPS), squeeze=False)
    for row, (kind, precisions) in zip(rows, curves.items(), strict=True):
        for axes, (place, overlap) in zip(row, OVERLAPS.items(), strict=True):
            axes.set_title(f"{kind}, overlap {overlap:g}", fontsize=10)
            _draw_classes(axes, precisions[place], classes)
    # By their colours: of long names, two may be cut to the same.
    lines = list({str(line.get_color()): line for axes in rows.flat for line in axes.get_lines()}.values())
    fonts = FontProperties(family=families("".join(str(line.get_label()) for line in lines)), size=9)
    figure.legend(handles=lines, loc="outside right upper", frameon=False, prop=fonts)
    write_figure(figure, path)


def mean_precision(precisions: Tensor) -> Tensor:
    """Return the mean over the classes that have objects, `[recall]`, of precisions `[recall, class]`; -1 without."""
    seen = (precisions > -1).all(0)
    return precisions[:, seen].mean(1) if seen.any() else torch.full_like(precisions[:, 0], -1.0)


def _draw_classes(axes: Axes, precisions: Tensor, classes: Sequence[str]) -> None:
    """Draw the curves of few classes, and the mean. The area below a curve is the average precision."""
    if len(classes) <= MOST_CLASSES_DRAWN:
        for label, (name, precision) in enumerate(zip(classes, precisions.unbind(1), strict=True), 1):
            if float(precision.min()) < 0:  # -1: no such object
                continue
            color = [ON_WHITE * value / 255 for value in class_color(label)]
            text = drawn(name)
            # matplotlib leaves out of a legend what begins with an underscore.
            axes.plot(RECALLS, precision, color=color, linewidth=1.2, label=text if text[:1] != "_" else f" {text}")
    mean = mean_precision(precisions)
    if float(mean.min()) >= 0:
        axes.plot(RECALLS, mean, color="black", linewidth=2.2, label="mean of the classes")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
