"""Draw maps over images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from eyetoy_train.visualize.legend import (
    ATTENTION,
    EXPONENT,
    FIELD,
    HEAT,
    MARK,
    Scale,
    greatest,
    put_bar,
    put_legend,
    shade_outside,
)
from eyetoy_train.visualize.maps import InputMaps, Map

Picture = NDArray[np.float32]
"""`[..., 3]` from 0 to 1."""
FAINT, STRONG = 0.35, 0.8
"""Opacity of a map where it is 0 and where it is greatest."""

WIDE = 3.0
"""Width of a column of a figure, in inches."""


def normalized(values: Map) -> Map:
    """Scale a map to a maximum of 1, with its faint parts lifted a little."""
    lifted: Map = np.power(values.clip(0) / greatest(values), EXPONENT, dtype=np.float32)
    return lifted


def heated(picture: Picture, values: Map) -> Picture:
    """Blend a map with the grey image below it; the greatest value is the brightest."""
    grey = picture.mean(-1, keepdims=True)  # grey, so that colours come from the map only
    return _blended(grey, normalized(values))


def _blended(grey: Picture, strength: Map) -> Picture:
    opacity = (FAINT + (STRONG - FAINT) * strength)[..., None]
    mixed: Picture = ((1 - opacity) * grey + opacity * HEAT(strength)[..., :3]).astype(np.float32)
    return mixed


BLEND = ListedColormap(_blended(np.full((256, 1), 0.5, np.float32), np.linspace(0, 1, 256, dtype=np.float32)))
"""The colours of `heated` over a middle grey, for colour bars."""


def outlined(axes: Axes, seen: NDArray[np.bool_]) -> None:
    """Draw the border of a neighborhood `[height, width]`, and hatch what is outside of it."""
    shade_outside(axes, seen)
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    if seen.all() or not len(rows):  # a border around the whole image tells nothing
        return
    # Half a pixel outwards: imshow puts the middle of a pixel at a whole number.
    corner, width, height = (columns[0] - 0.5, rows[0] - 0.5), float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=MARK, linewidth=1.5))


def draw_picture_maps(
    picture: Picture,
    maps: InputMaps,
    aspect: str | float = "equal",
    *,
    answer: NDArray[np.uint8] | None = None,
    note: str = "",
    put_ticks: Callable[[Axes], None] | None = None,
) -> Figure:
    """Draw all maps of a two-dimensional input; `put_title` gives the figure its title.

    Args:
        picture: the image below the maps, `[height, width, 3]`.
        maps: the maps.
        aspect: of a pixel, as in matplotlib's `imshow`.
        answer: a picture with the result of the model on it, `[height, width, 3]`.
        note: a sentence below the maps.
        put_ticks: labels the axes of a picture; without it they are bare.
    """
    panels: list[_Panel] = [_Panel("the model's input", picture)]
    if maps.context is not None:
        panels.append(_Panel("attention of the context token", picture, maps.context))
    panels.append(_Panel("effective receptive field of the point", picture, maps.field, FIELD))
    panels.append(_Panel("features: three principal components", maps.components))
    rows = [panels]
    for stage in maps.stages:
        groups = [_Panel(f"{stage.title}: {one.title}", picture, one.weights, seen=one.seen) for one in stage.groups]
        rows.append([*groups, _Panel(f"{stage.title}: receptive field", picture, stage.field, FIELD)])
    columns = max(len(panels) + (answer is not None), *map(len, rows))
    # Height of a panel over its width, bounded: a long spectrogram or a tall page would leave no room for the others.
    ratio = picture.shape[0] / picture.shape[1] if aspect == "equal" else 0.6
    side = min(max(ratio, 0.1), 1.5)
    size = (WIDE * min(1.0, side / ratio), WIDE * min(side, ratio))  # of a picture, in inches
    gap = 0.05 if put_ticks is None else 0.36  # below it; room for the ticks
    figure = Figure(figsize=(WIDE * columns, (WIDE * side + gap + 0.8) * len(rows) + 1.2), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
        axes.set_anchor("N")  # pictures with and without a colour bar begin at one height
    for row, places in zip(rows, grid, strict=True):
        # strict=False: rows have different numbers of panels, and axes without one stay empty.
        for panel, axes in zip(row, places, strict=False):
            panel.draw(axes, maps.point, aspect, put_ticks)
            if panel.values is not None:
                put_bar(axes, panel.values, panel.scale, BLEND, size, gap)
    if answer is not None:
        grid[0, len(panels)].imshow(answer)  # not "nearest", which would tear the letters of captions
        grid[0, len(panels)].set_title("prediction", fontsize=9.5)
    put_legend(figure, note, has_attention=maps.has_attention)
    return figure


class _Panel:
    """A picture, or a map over it, and its title."""

    def __init__(
        self,
        title: str,
        picture: Picture,
        values: Map | None = None,
        scale: Scale = ATTENTION,
        seen: NDArray[np.bool_] | None = None,
    ) -> None:
        self.title, self.values, self.scale, self.seen = title, values, scale, seen
        self.picture = picture if values is None else heated(picture, values)

    def draw(
        self, axes: Axes, point: Sequence[int], aspect: str | float, put_ticks: Callable[[Axes], None] | None
    ) -> None:
        axes.imshow(self.picture, aspect=aspect, interpolation="nearest")  # type: ignore[arg-type]
        axes.set_title(self.title, fontsize=9.5)
        if put_ticks is not None:
            axes.set_axis_on()
            put_ticks(axes)
        if self.seen is not None:
            outlined(axes, self.seen)
        axes.plot(point[1], point[0], "+", color=MARK, markersize=11, markeredgewidth=1.8)
