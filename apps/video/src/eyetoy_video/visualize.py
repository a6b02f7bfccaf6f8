"""Draw attention maps of the video app's models over frames: as stills, and as a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eyetoy_train.commands.visualize import View, check_place, visualize
from eyetoy_train.media.encode import write_mp4
from eyetoy_train.visualize.classifier import ClassifierView, heading
from eyetoy_train.visualize.figures import MARK, heated, outlined
from eyetoy_train.visualize.maps import InputMaps, Map
from eyetoy_video.app import APP
from eyetoy_video.io.files import EXTENSIONS
from eyetoy_video.task import PLAYED_RATE, VideoClassification

STILLS, PANEL_SIDE, CAPTION = 6, 192, 22
"""Number of frames drawn as stills; size of a panel of the clip, and of the text above it, in pixels."""


class ClipView(ClassifierView[VideoClassification]):
    """The predictions and maps of a classifier of clips; see `ClassifierView`."""

    axes = ("time", "height", "width")

    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the prediction and the maps of a file."""
        place, example = check_place(at, self.axes), self.example(file)
        classes, one = self.top(example), self.one_view(example)
        frames = self.task.frames(one["input"]).float().div(255).numpy()
        maps = self.maps(one, place, "places")
        return View(classes, draw_stills(frames, maps, heading(classes)), draw_clip(frames, maps))


def draw_stills(frames: Map, maps: InputMaps, title: str) -> Figure:
    """Draw a few frames of a clip and of all maps, with time to the right.

    Args:
        frames: `[time, height, width, 3]` from 0 to 1.
        maps: maps of the clip.
        title: title of the figure.
    """
    spread = np.linspace(0, len(frames) - 1, min(STILLS, len(frames))).round().astype(int)
    chosen = sorted({*spread.tolist(), maps.point[0]})  # the frame of the point is always shown
    rows = _rows(frames, maps)
    figure = Figure(figsize=(1.7 * len(chosen) + 2.2, 1.7 * len(rows) + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=15)
    axes = figure.subplots(len(rows), len(chosen), squeeze=False)
    for row, (name, clip, seen) in zip(axes, rows, strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        for place, time in zip(row, chosen, strict=True):
            place.imshow(clip[time], interpolation="nearest")
            place.set(xticks=[], yticks=[])
            if seen is not None:
                outlined(place, seen[time])
            if time == maps.point[0]:
                place.plot(maps.point[2], maps.point[1], "+", color=MARK, markersize=10, markeredgewidth=1.8)
    for place, time in zip(axes[0], chosen, strict=True):
        place.set_title(f"frame {time + 1}" + (", the point" if time == maps.point[0] else ""), fontsize=10)
    return figure


def draw_clip(frames: Map, maps: InputMaps) -> list[NDArray[np.uint8]]:
    """Return the frames of a clip with the main maps side by side, `[height, width, 3]` each, of even sizes."""
    rows = [row for row in _rows(frames, maps) if row[2] is None]
    scale = max(round(PANEL_SIDE / frames.shape[1]), 1)
    names = [name.replace("\n", " ") for name, _, _ in rows]
    moments = zip(*(clip for _, clip, _ in rows), strict=True)  # from a clip for each map to the maps of each frame
    return [_panels(list(zip(names, panels, strict=True)), scale) for panels in moments]


def _panels(panels: Sequence[tuple[str, Map]], scale: int) -> NDArray[np.uint8]:
    sheets = []
    for name, image in panels:
        large = (image * 255).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
        height, width = (size // 2 * 2 for size in large.shape[:2])
        sheet = Image.new("RGB", (width + 4, height + CAPTION), "white")
        sheet.paste(Image.fromarray(large[:height, :width]), (2, CAPTION))
        ImageDraw.Draw(sheet).text((4, 5), name, fill="black", font_size=12)
        sheets.append(np.asarray(sheet))
    return np.concatenate(sheets, axis=1)


def _rows(frames: Map, maps: InputMaps) -> list[tuple[str, Map, NDArray[np.bool_] | None]]:
    """Return names, clips, and, for head groups, their neighborhoods."""
    rows: list[tuple[str, Map, NDArray[np.bool_] | None]] = [("the model's\ninput", frames, None)]
    if maps.context is not None:
        rows.append(("attention of the\ncontext token", heated(frames, maps.context), None))
    rows.append(("receptive field\nof the point", heated(frames, maps.field), None))
    rows.append(("principal\ncomponents", maps.components, None))
    for stage in maps.stages:
        for group in stage.groups:
            rows.append((f"{stage.title}:\n{group.title}", heated(frames, group.weights), group.seen))  # noqa: PERF401
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
