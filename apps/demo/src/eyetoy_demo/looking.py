"""Apply a model to a file for the page: an answer, or a sentence with the error."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyetoy_demo.parts import length_of
from eyetoy_demo.temporary import folder_for_a_clip
from eyetoy_demo.timeline import draw_timeline, sentence_of, timeline
from eyetoy_train.commands.visualize import OpenViewer, Viewer, figure_pixels
from eyetoy_train.types import Modality
from eyetoy_train.utils.text import shown

KEPT_MODELS = 6
LOADING = Lock()


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
    timeline: NDArray[np.uint8] | None = None
    """The prediction over the time of a file that is longer than what the model takes."""
    note: str = ""
    """What to know about the file and the prediction."""


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
        length = length_of(getattr(viewer, "task", None), file)
        over_time = None if length is None else timeline(viewer, file, length)
    except (ValueError, OSError) as error:  # an unreadable file is a ValueError
        return Answer(sentence(error, file))
    clip = _write(view.frames) if len(view.frames) else None
    classes, notes, drawn = view.classes, [] if length is None else [length.remark], None
    if not classes:
        notes.append("The model found nothing in this file.")
    if length is not None and over_time is not None:
        # A fixed number of windows leaves out most of a long file; otherwise the task's own prediction is of all of it.
        classes = classes if length.views is None else over_time.classes
        notes.append(sentence_of(length, modality))
        drawn = figure_pixels(draw_timeline(over_time))
    note = " ".join(filter(None, notes))
    return Answer("", _numbered(classes), view.answer, figure_pixels(view.maps), clip, drawn, note)


def open_viewer(modality: Modality, run: Path) -> Viewer:
    """Return a run's model, loaded once."""
    with LOADING:  # or two requests at the start would both load it
        return _open(modality, run)


@lru_cache(maxsize=KEPT_MODELS)
def _open(modality: Modality, run: Path) -> Viewer:
    open_app: OpenViewer = _visualize(modality).open_viewer
    return open_app(run, ())


def extensions(modality: Modality) -> tuple[str, ...]:
    """Return the suffixes of the files that a modality's app reads."""
    found: tuple[str, ...] = _visualize(modality).EXTENSIONS
    return found


def _visualize(modality: Modality) -> Any:
    # An app is imported when its first model is opened, so that the page is there before.
    return importlib.import_module(f"eyetoy_{modality}.visualize")


def sentence(error: Exception, file: Path) -> str:
    """Return an error as a sentence with the file's name instead of its path."""
    # The path is that of an upload in a temporary folder, which means nothing to its owner.
    lines = str(error).replace(str(file), file.name).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    # Names of files stay as they are.
    is_name = first.startswith(file.name) or "/" in first.split()[0]
    begin = first if is_name else f"{first[0].upper()}{first[1:]}"
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
    clip: Path = _visualize("video").write_clip(frames, folder_for_a_clip() / "maps.mp4")
    return clip
