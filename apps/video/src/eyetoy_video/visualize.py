"""Draw attention maps of the video app's models over frames: as stills, and as a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eyetoy_train.commands.visualize import View, check_place, visualize
from eyetoy_train.media.encode import write_mp4
from eyetoy_train.visualize.classifier import ClassifierView
from eyetoy_train.visualize.figures import BLEND, heated, outlined
from eyetoy_train.visualize.legend import (
    ATTENTION,
    EXPONENT,
    FIELD,
    MARK,
    Scale,
    greatest,
    put_legend,
    put_side_bar,
    put_title,
)
from eyetoy_train.visualize.maps import InputMaps, Map
from eyetoy_video.app import APP
from eyetoy_video.io.files import EXTENSIONS, frame_seconds
from eyetoy_video.task import PLAYED_RATE, VideoClassification

STILLS, PANEL_SIDE, CAPTION = 6, 192, 22
"""Number of frames drawn as stills; size of a panel of the clip, and of the text above and below it, in pixels."""
LEAST_SHEET, BAR_WIDTH = 188, 64
"""Least width of a panel of the clip with its text, and width of its colour bar, in pixels."""
INPUT = "the model's\ninput"


class ClipView(ClassifierView[VideoClassification]):
    """The predictions and maps of a classifier of clips; see `ClassifierView`."""

    axes = ("time", "height", "width")

    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the prediction and the maps of a file."""
        place, example = check_place(at, self.axes), self.example(file)
        classes, one = self.top(example), self.one_view(example)
        frames = self.task.frames(one["input"]).float().div(255).numpy()
        maps = self.maps(one, place, "places")
        # Crops of a clip are neighbors among the views, so that the middle view is of the middle clip.
        times = np.array(frame_seconds(file, self.task.evaluation_sampling)).reshape(self.task.data.clips, -1)
        seconds = times[self.task.data.clips // 2].tolist()
        figure = draw_stills(frames, maps, seconds)
        put_title(figure, file, classes)
        return View(classes, figure, draw_clip(frames, maps, seconds))


class _Row(NamedTuple):
    """A clip to draw, of a map or of the input."""

    name: str
    clip: Map
    """`[time, height, width, 3]` from 0 to 1."""
    values: Map | None = None
    """The map, `[time, height, width]`."""
    scale: Scale = ATTENTION
    seen: NDArray[np.bool_] | None = None
    """For a head group, its neighborhood, `[time, height, width]`."""


def draw_stills(frames: Map, maps: InputMaps, seconds: Sequence[float]) -> Figure:
    """Draw a few frames of a clip and of all maps, with time to the right; `put_title` gives the figure its title.

    Args:
        frames: `[time, height, width, 3]` from 0 to 1.
        maps: maps of the clip.
        seconds: when each frame is shown.
    """
    spread = np.linspace(0, len(frames) - 1, min(STILLS, len(frames))).round().astype(int)
    chosen = sorted({*spread.tolist(), maps.point[0]})  # the frame of the point is always shown
    rows = _rows(frames, maps)
    figure = Figure(figsize=(max(1.7 * len(chosen) + 3.2, 8), 1.7 * len(rows) + 1.5), layout="constrained")
    grid = figure.subplots(len(rows), len(chosen), squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        axes[0].set_ylabel(row.name, rotation=0, ha="right", va="center", fontsize=10)
        for place, time in zip(axes, chosen, strict=True):
            place.imshow(row.clip[time], interpolation="nearest")
            place.set(xticks=[], yticks=[])
            if row.seen is not None:
                outlined(place, row.seen[time])
            if time == maps.point[0]:
                place.plot(maps.point[2], maps.point[1], "+", color=MARK, markersize=10, markeredgewidth=1.8)
        if row.values is not None:
            put_side_bar(figure, list(axes), row.values, row.scale, BLEND)
    for place, time in zip(grid[0], chosen, strict=True):
        mark = ", the point" if time == maps.point[0] else ""
        place.set_title(f"{seconds[time]:.2f} s{mark}\nframe {time + 1} of {len(frames)}", fontsize=9.5)
    put_legend(figure, has_attention=maps.has_attention)
    return figure


def draw_clip(frames: Map, maps: InputMaps, seconds: Sequence[float]) -> list[NDArray[np.uint8]]:
    """Return the frames of a clip with the main maps side by side, `[height, width, 3]` each, of even sizes.

    Arguments as of `draw_stills`. A colour bar below each map goes from 0 to the map's greatest value.
    """
    rows = [row for row in _rows(frames, maps) if row.seen is None]
    scale = max(round(PANEL_SIDE / frames.shape[1]), 1)
    return [
        np.concatenate([_sheet(row, time, f"{seconds[time]:.2f} s", scale) for row in rows], axis=1)
        for time in range(len(frames))
    ]


def _sheet(row: _Row, time: int, moment: str, scale: int) -> NDArray[np.uint8]:
    """Return a frame of a row below its name, and above its colour bar."""
    large = (row.clip[time] * 255).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    height, width = (size // 2 * 2 for size in large.shape[:2])
    sheet = Image.new("RGB", (max(width, LEAST_SHEET) + 4, height + 2 * CAPTION), "white")
    sheet.paste(Image.fromarray(large[:height, :width]), (2, CAPTION))
    draw, below = ImageDraw.Draw(sheet), height + CAPTION + 5
    draw.text((4, 5), row.name.replace("\n", " "), fill="black", font_size=12)
    if row.values is None:
        if row.name == INPUT:
            draw.text((4, below), moment, fill="black", font_size=12)
        return np.asarray(sheet)
    top = greatest(row.values)
    ramp = np.round(255 * BLEND(np.linspace(0, 1, BAR_WIDTH) ** EXPONENT)[:, :3]).astype(np.uint8)
    draw.text((4, below), "0", fill="black", font_size=12)
    sheet.paste(Image.fromarray(np.broadcast_to(ramp, (10, BAR_WIDTH, 3)).copy()), (16, below + 2))
    unit = "per token" if row.scale is ATTENTION else "(largest)"
    draw.text((20 + BAR_WIDTH, below), f"{row.scale.write(top, top)} {unit}", fill="black", font_size=12)
    return np.asarray(sheet)


def _rows(frames: Map, maps: InputMaps) -> list[_Row]:
    """Return the input, the maps of the whole encoder, and those of the head groups."""
    rows = [_Row(INPUT, frames)]
    if maps.context is not None:
        rows.append(_Row("attention of the\ncontext token", heated(frames, maps.context), maps.context))
    rows.append(_Row("receptive field\nof the point", heated(frames, maps.field), maps.field, FIELD))
    rows.append(_Row("principal\ncomponents", maps.components))
    for stage in maps.stages:
        for group in stage.groups:
            heat = heated(frames, group.weights)
            rows.append(_Row(f"{stage.title}:\n{group.title}", heat, group.weights, seen=group.seen))
    return rows


def write_clip(frames: Sequence[NDArray[np.uint8]], path: Path) -> Path:
    """Write frames as MP4, and return the file."""
    write_mp4(path, frames, PLAYED_RATE)
    return path


def open_viewer(checkpoint: Path, overrides: Sequence[str] = ()) -> ClipView:
    """Return the view of a run or a checkpoint; see `App.open` and `ClassifierView` for errors."""
    return ClipView(APP.open(checkpoint, overrides, command="visualize"))


def main(argv: Sequence[str] | None = None) -> None:
    """Draw maps, as the command line says."""
    visualize(open_viewer, EXTENSIONS, write_clip, argv)
