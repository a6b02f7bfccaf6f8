"""Apply a model to a file for the page: an answer, or a sentence with the error."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import eyetoy_audio.io.files
import eyetoy_audio.visualize
import eyetoy_image.io.files
import eyetoy_image.visualize
import eyetoy_video.io.files
import eyetoy_video.visualize
from eyetoy_train.commands.visualize import OpenViewer, Viewer, figure_pixels
from eyetoy_train.types import Modality
from eyetoy_train.utils.text import shown

OPEN: dict[Modality, OpenViewer] = {
    "image": eyetoy_image.visualize.open_viewer,
    "audio": eyetoy_audio.visualize.open_viewer,
    "video": eyetoy_video.visualize.open_viewer,
}
EXTENSIONS: dict[Modality, tuple[str, ...]] = {
    "image": eyetoy_image.io.files.EXTENSIONS,
    "audio": eyetoy_audio.io.files.EXTENSIONS,
    "video": eyetoy_video.io.files.EXTENSIONS,
}
KEPT_MODELS = 6


@dataclass(frozen=True)
class Answer:
    """The result that the page shows."""

    message: str = ""
    """An error, if there is one."""
    classes: Mapping[str, float] = field(default_factory=dict)
    found: NDArray[np.uint8] | None = None
    """The image with the result of a detector or a segmenter."""
    maps: NDArray[np.uint8] | None = None
    clip: Path | None = None


def answer(modality: Modality, run: Path | None, file: Path | None, at: Mapping[str, float]) -> Answer:
    """Return the prediction and the maps of a model for a file.

    Args:
        modality: the modality of the model.
        run: the run's folder.
        file: the file given to the page; without one the answer is empty.
        at: the chosen point, a fraction from 0 to 1 by axis.
    """
    if run is None or file is None:
        return Answer("" if run else f"There is no {modality} model yet.")
    try:
        viewer = open_viewer(modality, run)
        view = viewer(file, [at.get(axis, 0.5) for axis in viewer.axes])
    except (ValueError, OSError) as error:  # an unreadable file is a ValueError
        return Answer(sentence(error, file))
    clip = _write(view.frames) if len(view.frames) else None
    return Answer("", _numbered(view.classes), view.answer, figure_pixels(view.maps), clip)


@lru_cache(maxsize=KEPT_MODELS)
def open_viewer(modality: Modality, run: Path) -> Viewer:
    """Return a run's model, loaded once."""
    return OPEN[modality](run, ())


def sentence(error: Exception, file: Path) -> str:
    """Return an error as a sentence with the file's name instead of its path."""
    # The path is that of an upload in a temporary folder, which means nothing to its owner.
    lines = str(error).replace(str(file), file.name).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    begin = first if first.startswith(file.name) else f"{first[0].upper()}{first[1:]}"
    return f"{shown(begin.rstrip('.'))}."


def _numbered(classes: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return classes by name; those found several times are numbered, such as `3` and `3 (2)`."""
    named: dict[str, float] = {}
    for name, score in classes:
        text = shown(name)  # the page is sent as JSON, which has no lone surrogates
        free = (text if count == 1 else f"{text} ({count})" for count in itertools.count(1))
        named[next(one for one in free if one not in named)] = score
    return named


def _write(frames: Sequence[NDArray[np.uint8]]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="eyetoy-demo-"))
    return eyetoy_video.visualize.write_clip(frames, folder / "maps.mp4")
