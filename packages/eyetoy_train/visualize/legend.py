"""What tells a reader of a figure of maps what is drawn: title, colour bars, hatching where a map has no values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from eyetoy_train.utils.figures import families
from eyetoy_train.utils.text import drawn, drawn_file

HEAT = colormaps["plasma"]
"""From blue over red to yellow: no value of it is grey."""
EXPONENT = 0.75
"""Of a map's values before they are coloured: a tenth of the greatest value is drawn as 0.18 of it."""
MARK = "#00e5ff"
OUTSIDE: dict[str, Any] = {"facecolor": (0.86, 0.86, 0.86, 0.88), "edgecolor": "#8c8c8c", "hatch": "////"}
"""The look of places without a value, `linewidth` aside: light grey with grey lines, neither of them in `HEAT`."""
TITLE_SIZE, SMALL = 13, 8
"""Of letters, in points."""
BAR, LEAST_BAR = 0.09, 1.7
"""Height and least width of a colour bar, in inches."""
LETTER = 0.63
"""Width of a letter over its size, on average."""
MOST_CLASSES = 3
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """What the numbers of a map are."""

    label: str
    write: Callable[[float, float], str]
    """Returns the text for a value, given the map's greatest one."""


def _percent(value: float, greatest: float) -> str:
    return f"{100 * value:.3g} %"


def _relative(value: float, greatest: float) -> str:
    return f"{value / greatest:.2g}"


ATTENTION = Scale("attention per token", _percent)
"""A token's share of the attention, which sums to 100 %."""
FIELD = Scale("gradient, largest = 1", _relative)
"""The norm of a gradient, whose unit means nothing by itself."""


def greatest(values: Map) -> float:
    """Return the greatest value of a map; a tiny number if it has none above zero, to divide by."""
    return max(float(values.max()), 1e-12)


def put_title(figure: Figure, file: Path | None, classes: Sequence[tuple[str, float]], nothing: str = "") -> None:
    """Write a file's name and the most probable classes above a figure, cut to its width.

    Args:
        figure: the figure.
        file: the file; None for none.
        classes: the best first, with fractions.
        nothing: written where there are no classes.
    """
    room = int(figure.get_figwidth() * 72 / (LETTER * TITLE_SIZE))
    best = classes[:MOST_CLASSES]
    # A percentage and the space after it take 10 letters.
    each = max(room // max(len(best), 1) - 10, 2)
    said = "   ".join(f"{drawn(name, min(each, 30))} {fraction:.1%}" for name, fraction in best) or nothing
    lines = [drawn_file(file.name, min(room, 90))] if file is not None else []
    title = "\n".join([*lines, said])
    figure.suptitle(title, fontsize=TITLE_SIZE, fontfamily=families(title))


def put_bar(axes: Axes, values: Map, scale: Scale, cmap: Colormap, size: tuple[float, float], gap: float) -> None:
    """Draw the colour bar of a map below its axes, from 0 to the greatest value.

    Args:
        axes: where the map is drawn.
        values: the map.
        scale: what its numbers are.
        cmap: its colours.
        size: width and height of the axes, in inches.
        gap: between the axes and the bar, in inches.
    """
    # Measured in the axes' own frame, so that it lies at the picture, whatever the layout leaves around that.
    width, height = size
    wide = max(1.0, LEAST_BAR / width)
    place = axes.inset_axes(((1 - wide) / 2, -(gap + BAR) / height, wide, BAR / height))
    label_bar(axes.figure.colorbar(_colored(values, cmap), cax=place, orientation="horizontal"), values, scale)
    first, _, last = place.get_xticklabels()
    first.set_horizontalalignment("left")  # or they would stick out, and touch those of the next bar
    last.set_horizontalalignment("right")


def put_side_bar(figure: Figure, axes: Sequence[Axes], values: Map, scale: Scale, cmap: Colormap) -> None:
    """Draw the colour bar of a map right of a row of axes, as `put_bar` does."""
    label_bar(figure.colorbar(_colored(values, cmap), ax=axes, location="right", aspect=12, pad=0.01), values, scale)


def put_wide_bar(figure: Figure, axes: Sequence[Axes], values: Map, scale: Scale, cmap: Colormap) -> None:
    """Draw one colour bar below all axes of a figure, as `put_bar` does."""
    colored = _colored(values, cmap)
    label_bar(figure.colorbar(colored, ax=axes, location="bottom", aspect=50, pad=0.01, shrink=0.5), values, scale)


def _colored(values: Map, cmap: Colormap) -> ScalarMappable:
    return ScalarMappable(PowerNorm(EXPONENT, 0, greatest(values)), cmap)


def label_bar(bar: Colorbar, values: Map, scale: Scale) -> None:
    """Write zero, the half and the whole of a map's greatest value beside its colour bar, and what they are."""
    top = greatest(values)
    ticks = (0.0, top / 2, top)
    bar.set_ticks(ticks, labels=[scale.write(tick, top) for tick in ticks], fontsize=SMALL)
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=2, pad=2)
    bar.outline.set_linewidth(0.5)
    bar.set_label(scale.label, fontsize=SMALL, labelpad=1)


def put_legend(figure: Figure, note: str = "", *, has_attention: bool, is_line: bool = False) -> None:
    """Explain the marks below a figure.

    Args:
        figure: the figure.
        note: a sentence above the legend.
        has_attention: whether there are neighborhoods to explain.
        is_line: whether the point is marked by a line.
    """
    look: dict[str, Any] = {"linestyle": "-"} if is_line else {"linestyle": "", "marker": "+", "markersize": 10}
    marks: list[Any] = [Line2D([], [], color=MARK, markeredgewidth=1.8, **look, label="the chosen point")]
    if has_attention:
        marks.append(Patch(fill=False, edgecolor=MARK, label="border of its neighborhood"))
        marks.append(Patch(**OUTSIDE, linewidth=0, label="outside of it: not seen, which is not a weight of zero"))
    figure.legend(
        handles=marks,
        loc="outside lower center",
        ncols=len(marks) if figure.get_figwidth() > 8 else 1,
        frameon=False,
        fontsize=SMALL + 1,
        title=note or None,
        title_fontsize=SMALL + 1,
    )


def shade_outside(axes: Axes, seen: NDArray[np.bool_]) -> None:
    """Hatch the places of a picture `[height, width]` that a neighborhood does not reach."""
    if seen.all():
        return
    height, width = seen.shape
    # A neighborhood is a product of its axes, so its runs on both make its boxes. imshow puts a pixel's middle at a
    # whole number. The boxes turn the other way around than the frame, which makes them holes in it.
    frame = _box(-0.5, -0.5, width - 0.5, height - 0.5)
    boxes = [
        _box(left - 0.5, top - 0.5, right - 0.5, bottom - 0.5)[::-1]
        for top, bottom in runs(np.asarray(seen.any(1)))
        for left, right in runs(np.asarray(seen.any(0)))
    ]
    corners = np.concatenate([frame, *boxes])
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY] * (1 + len(boxes))
    axes.add_patch(PathPatch(Outline(corners, codes), linewidth=0, **OUTSIDE))


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and end of every run of true values; for example (1, 3) for false, true, true."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True))


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
