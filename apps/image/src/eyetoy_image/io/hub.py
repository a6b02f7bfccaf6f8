"""Pictures as Hugging Face's `datasets` stores them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from torch import Tensor

from eyetoy_image.io.files import read_image
from eyetoy_train.data.hub import HubSample, stored_content

PictureFile = Path | HubSample
"""A file, or a place in a set of `datasets` that holds one."""


def is_there(file: PictureFile) -> bool:
    """Tell whether there is a file at all; a set may have none at a place."""
    return file.is_file() if isinstance(file, Path) else file.stored is not None


def opened(file: PictureFile) -> Path | io.BytesIO:
    """Return what Pillow opens."""
    return file if isinstance(file, Path) else _readable(file.stored)


def read_stored_image(stored: dict[str, Any], name: str, grayscale: bool) -> Tensor:
    """Return the uint8 pixels of an undecoded picture of `datasets`; errors as in `read_image`.

    Args:
        stored: its `bytes`, or the `path` where they lie.
        name: what to call it in messages, if it has no path.
        grayscale: return one channel instead of three.
    """
    return read_image(_readable(stored), grayscale=grayscale, name=stored["path"] or name)


def _readable(stored: dict[str, Any]) -> Path | io.BytesIO:
    content = stored_content(stored)
    return io.BytesIO(content) if isinstance(content, bytes) else content
