"""What `visualize.py` of every app does: pictures of what a checkpoint looks at in files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyetoy_train.commands.cli import check_output_folder, exit_on_error, expand, files_parser
from eyetoy_train.data.unreadable import UnreadableFileError

DOTS_PER_INCH = 110


@dataclass(frozen=True)
class View:
    """What a model says of a file, and what it looks at."""

    classes: Sequence[tuple[str, float]]
    """The most probable ones, or what else it found, with probabilities or shares."""
    maps: Figure
    """All maps."""
    frames: Sequence[NDArray[np.uint8]] = field(default_factory=tuple)
    """For a clip, the maps frame by frame, `[height, width, 3]` each."""
    answer: NDArray[np.uint8] | None = None
    """For what finds things in a picture, the picture with these on it, `[height, width, 3]`."""


class Viewer(Protocol):
    """A model that tells what it sees in files."""

    @property
    def axes(self) -> Sequence[str]:
        """What a place in a file has a share of, such as height and width."""

    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Look at a file.

        Args:
            file: the file.
            at: the place whose neighborhoods are shown, a share from 0 to 1 for each axis; the middle by default.

        Raises:
            UnreadableFileError, OSError: the file cannot be read.
            ValueError: there is no such place.
        """


OpenViewer = Callable[[Path, Sequence[str]], Viewer]
"""From a run folder or checkpoint, and overrides of its recipe as on a command line, to a viewer."""


def visualize(
    open_viewer: OpenViewer,
    extensions: Collection[str],
    write_clip: Callable[[Sequence[NDArray[np.uint8]], Path], Path] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Draw what a checkpoint looks at in files, as the command line says.

    Args:
        open_viewer: of the app.
        extensions: of the files that folders are searched for.
        write_clip: writes frames beside a picture, and returns the file.
        argv: the command line; this program's own by default.
    """
    parser = _parser(extensions)
    options, overrides = parser.parse_known_args(argv)
    failed = False
    with exit_on_error():
        files = list(expand(options.inputs, extensions))
        check_output_folder(options.output)
        viewer = open_viewer(options.checkpoint, overrides)
        options.output.mkdir(parents=True, exist_ok=True)
        for file, name in zip(files, _names(files), strict=True):
            try:
                view = viewer(file, options.point)
            except (UnreadableFileError, OSError) as error:
                failed = True
                print(f"skipped: {error}", file=sys.stderr)  # noqa: T201
                continue
            written = [write_figure(view.maps, options.output / f"{name}.png")]
            if len(view.frames) and write_clip is not None:
                written.append(write_clip(view.frames, options.output / f"{name}.mp4"))
            said = [f"{label} {share:.1%}" for label, share in view.classes]
            print("  ".join([str(file), *said, "->", *map(str, written)]), flush=True)  # noqa: T201
    if failed:
        raise SystemExit(1)  # what could not be read was named


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, and return the file."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as `[height, width, 3]`."""
    figure.set_dpi(DOTS_PER_INCH)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def check_place(at: Sequence[float] | None, axes: Sequence[str]) -> Sequence[float]:
    """Return a chosen place, or the middle.

    Raises:
        ValueError: there is not a share from 0 to 1 for each axis.
    """
    at = [0.5] * len(axes) if at is None else at
    if len(at) != len(axes) or not all(0 <= share <= 1 for share in at):
        told = " ".join(f"{share:g}" for share in at)
        raise ValueError(f"--point must be a share from 0 to 1 of each of {', '.join(axes)}; got {told}")
    return at


def _parser(extensions: Collection[str]) -> argparse.ArgumentParser:
    parser = files_parser("Draw what a checkpoint looks at. Further options override its recipe.", extensions)
    parser.add_argument(
        "--point",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="the place whose neighborhoods and receptive field are drawn: a share from 0 to 1 of time, height and "
        "width, of those that a file has (default: the middle)",
    )
    parser.add_argument("--output", type=Path, default=Path("maps"), help="folder for the pictures (default: maps)")
    return parser


def _names(files: Sequence[Path]) -> list[str]:
    """Return a name for the picture of each file; files of one name are numbered."""
    counts: dict[str, int] = {}
    names = []
    for file in files:
        counts[file.stem] = count = counts.get(file.stem, 0) + 1
        names.append(file.stem if count == 1 else f"{file.stem}-{count}")
    return names
