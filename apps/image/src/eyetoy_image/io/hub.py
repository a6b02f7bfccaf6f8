"""Read images stored by Hugging Face's `datasets`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from torch import Tensor

from eyetoy_image.io.background import Background
from eyetoy_image.io.files import read_image
from eyetoy_train.data.hub import HubSample, is_stored, stored_content

PictureFile = Path | HubSample
"""A file, or a row of a set of `datasets` with one."""


def is_there(file: PictureFile) -> bool:
    """Return whether the file exists; a row of a set may have none."""
    return file.is_file() if isinstance(file, Path) else is_stored(file.stored)


def opened(file: PictureFile) -> Path | io.BytesIO:
    """Return an argument for Pillow's `Image.open`."""
    return file if isinstance(file, Path) else _readable(file.stored, str(file))


def read_stored_image(stored: dict[str, Any], name: str, grayscale: bool, background: Background = "white") -> Tensor:
    """Return the uint8 pixels of an undecoded image of `datasets`; errors as in `read_image`.

    Args:
        stored: its `bytes`, or the `path` of a file.
        name: name for messages if it has no path.
        grayscale: return one channel instead of three.
        background: what transparent pixels are laid on.
    """
    return read_image(_readable(stored, name), grayscale=grayscale, background=background, name=stored["path"] or name)


def _readable(stored: dict[str, Any], name: str) -> Path | io.BytesIO:
    content = stored_content(stored, name)
    return io.BytesIO(content) if isinstance(content, bytes) else content
