"""Draw maps over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from eyetoy_train.visualize.maps import InputMaps, Map

Picture = NDArray[np.float32]
"""`[..., 3]` from 0 to 1."""
HEAT = colormaps["inferno"]
FAINT, STRONG = 0.25, 0.8
"""Opacity of a map where it is 0 and where it is greatest."""
MARK = "#00e5ff"


def normalized(values: Map) -> Map:
    """Scale a map to a maximum of 1, with its faint parts lifted a little."""
    # The exponent makes weights of a tenth of the maximum visible: 0.1 becomes 0.18.
    lifted: Map = np.power(values.clip(0) / max(float(values.max()), 1e-12), 0.75, dtype=np.float32)
    return lifted


def heated(picture: Picture, values: Map) -> Picture:
    """Blend a map with the grey image below it; the greatest value is the brightest."""
    strength = normalized(values)[..., None]  # [height, width, 1]
    opacity = FAINT + (STRONG - FAINT) * strength
    grey = picture.mean(-1, keepdims=True)  # grey, so that colours come from the map only
    mixed: Picture = ((1 - opacity) * grey + opacity * HEAT(strength[..., 0])[..., :3]).astype(np.float32)
    return mixed


def outlined(axes: Axes, seen: NDArray[np.bool_]) -> None:
    """Draw the border of a neighborhood `[height, width]`."""
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    if seen.all() or not len(rows):  # a border around the whole image tells nothing
        return
    # Half a pixel outwards: imshow puts the middle of a pixel at a whole number.
    corner, width, height = (columns[0] - 0.5, rows[0] - 0.5), float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=MARK, linewidth=1.5))


def draw_picture_maps(
    picture: Picture,
    maps: InputMaps,
    title: str,
    aspect: str | float = "equal",
    *,
    answer: NDArray[np.uint8] | None = None,
    note: str = "",
) -> Figure:
    """Draw all maps of a two-dimensional input.

    Args:
        picture: the image below the maps, `[height, width, 3]`.
        maps: the maps.
        title: title of the figure.
        aspect: of a pixel, as in matplotlib's `imshow`.
        answer: a picture with the result of the model on it, `[height, width, 3]`.
        note: a sentence below the maps.
    """
    columns = max(4, *(len(stage.groups) + 1 for stage in maps.stages))
    rows = 1 + len(maps.stages)
    # Height of a panel over its width, bounded: a long spectrogram or a tall page would leave no room for the others.
    side = np.clip(picture.shape[0] / picture.shape[1], 0.5, 1.5) if aspect == "equal" else 0.6
    figure = Figure(figsize=(3 * columns, (3 * side + 0.45) * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=15)
    if note:
        figure.supxlabel(note, fontsize=9.5)
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.set_axis_off()
    panels = [("the model's input, and the point", picture)]
    if maps.context is not None:
        panels.append(("attention of the context token", heated(picture, maps.context)))
    panels += [
        ("effective receptive field of the point", heated(picture, maps.field)),
        ("features: three principal components", maps.components),
    ]
    for place, (name, panel) in enumerate(panels):
        _show(axes[0, place], panel, name, maps.point, aspect)
    if answer is not None:
        axes[0, len(panels)].imshow(answer)  # not "nearest", which would tear the letters of captions
        axes[0, len(panels)].set_title("prediction", fontsize=9.5)
    # strict=False: stages have different numbers of groups, and axes without a map stay empty.
    for row, stage in zip(axes[1:], maps.stages, strict=True):
        for place, group in zip(row, stage.groups, strict=False):
            _show(place, heated(picture, group.weights), f"{stage.title}: {group.title}", maps.point, aspect)
            outlined(place, group.seen)
        _show(row[-1], heated(picture, stage.field), f"{stage.title}: receptive field", maps.point, aspect)
    return figure


def _show(axes: Axes, picture: Picture, title: str, point: Sequence[int], aspect: str | float) -> None:
    axes.imshow(picture, aspect=aspect, interpolation="nearest")  # type: ignore[arg-type]
    axes.set_title(title, fontsize=9.5)
    axes.plot(point[1], point[0], "+", color=MARK, markersize=11, markeredgewidth=1.8)
