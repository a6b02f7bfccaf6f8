"""Draw attention maps and receptive fields of a checkpoint: the command `visualize.py` of every app."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyetoy_train.commands.cli import expand, files_parser, make_output_folder, parse_with_overrides
from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.ending import exit_on_error
from eyetoy_train.utils.console import log
from eyetoy_train.utils.figures import DOTS_PER_INCH, save_figure
from eyetoy_train.utils.text import shown


@dataclass(frozen=True)
class View:
    """A model's prediction for a file, and its maps."""

    classes: Sequence[tuple[str, float]]
    """The most probable classes, or those found in the file, with probabilities or fractions."""
    maps: Figure
    """All maps."""
    frames: Sequence[NDArray[np.uint8]] = field(default_factory=tuple)
    """For a clip, the maps frame by frame, `[height, width, 3]` each."""
    answer: NDArray[np.uint8] | None = None
    """For detection and segmentation, the image with the result drawn on it, `[height, width, 3]`."""


class Viewer(Protocol):
    """A model that returns predictions and maps of files."""

    @property
    def axes(self) -> Sequence[str]:
        """Names of the axes of a file, such as height and width."""

    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the prediction and the maps of a file.

        Args:
            file: the file.
            at: the point whose neighborhoods are shown, a fraction from 0 to 1 of each axis; the middle by default.

        Raises:
            UnreadableFileError: the file cannot be decoded.
            OSError: the file cannot be read.
            ValueError: `at` is not a point of the file.
        """


OpenViewer = Callable[[Path, Sequence[str]], Viewer]
"""Takes a run folder or checkpoint and overrides of its recipe, as on a command line; returns a viewer."""


@exit_on_error()
def visualize(
    open_viewer: OpenViewer,
    extensions: Collection[str],
    write_clip: Callable[[Sequence[NDArray[np.uint8]], Path], Path] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Draw the maps of files to images, as the command line says.

    Args:
        open_viewer: opens a checkpoint of the app.
        extensions: suffixes of the files to find in folders.
        write_clip: writes frames as a video, and returns the file.
        argv: the command line; `sys.argv[1:]` by default.
    """
    parser = files_parser("Draw the attention maps of a checkpoint. Further options override its recipe.", extensions)
    parser.add_argument(
        "--point",
        type=float,
        nargs="+",
        metavar="FRACTION",
        help="the point whose neighborhoods and receptive field are drawn: a fraction from 0 to 1 of time, height and "
        "width, as far as a file has them (default: the middle)",
    )
    parser.add_argument("--output", type=Path, default=Path("maps"), help="folder for the images (default: maps)")
    options, overrides = parse_with_overrides(parser, argv)
    failed = False
    files = list(expand(options.inputs, extensions))
    names = _names(files)
    viewer = open_viewer(options.checkpoint, overrides)
    make_output_folder(options.output, files, [f"{name}{suffix}" for name in names for suffix in (".png", ".mp4")])
    for file, name in zip(files, names, strict=True):
        try:
            view = viewer(file, options.point)
        except (UnreadableFileError, OSError) as error:
            failed = True
            log(f"skipped: {error}", file=sys.stderr)
            continue
        written = [write_figure(view.maps, options.output / f"{name}.png")]
        if len(view.frames) and write_clip is not None:
            written.append(write_clip(view.frames, options.output / f"{name}.mp4"))
        classes = [f"{label} {fraction:.1%}" for label, fraction in view.classes]
        log(shown("  ".join([str(file), *classes, "->", *map(str, written)])))
    if failed:
        raise SystemExit(1)  # the files were named on stderr


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, and return the file."""
    save_figure(figure, path)
    return path


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as `[height, width, 3]`."""
    figure.set_dpi(DOTS_PER_INCH)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    # A copy: the buffer belongs to the canvas and goes with it.
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def check_place(at: Sequence[float] | None, axes: Sequence[str]) -> Sequence[float]:
    """Return `at`, or the middle if it is None.

    Raises:
        ValueError: `at` is not one fraction from 0 to 1 for each axis.
    """
    at = [0.5] * len(axes) if at is None else at
    if len(at) != len(axes) or not all(0 <= fraction <= 1 for fraction in at):
        given = " ".join(f"{fraction:g}" for fraction in at)
        raise ValueError(f"--point must be a fraction from 0 to 1 of each of {', '.join(axes)}; got {given}")
    return at


def _names(files: Sequence[Path]) -> list[str]:
    """Return a name for the image of each file; files of the same name in several folders are numbered."""
    names: dict[str, str] = {}  # by how they are compared on systems that do not tell upper from lower case
    for file in files:
        numbered = (file.stem if number == 1 else f"{file.stem}-{number}" for number in itertools.count(1))
        name = next(name for name in numbered if name.casefold() not in names)
        names[name.casefold()] = name
    return list(names.values())
