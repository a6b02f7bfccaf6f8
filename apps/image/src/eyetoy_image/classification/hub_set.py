"""Pictures as Hugging Face's `datasets` stores them."""

from __future__ import annotations

import io
from typing import Any

from torch import Tensor

from eyetoy_image.files import read_image
from eyetoy_train.hub_set import stored_content


def read_stored(stored: dict[str, Any], name: str, grayscale: bool) -> Tensor:
    """Return the uint8 pixels of an undecoded picture of `datasets`; errors as in `read_image`.

    Args:
        stored: its `bytes`, or the `path` where they lie.
        name: what to call it in messages, if it has no path.
        grayscale: return one channel in place of three.
    """
    content = stored_content(stored)
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    return read_image(source, grayscale=grayscale, name=stored["path"] or name)
