"""Read videos stored by Hugging Face's `datasets`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from eyetoy_train.data.hub import stored_content
from eyetoy_train.media.video import Decoder
from eyetoy_video.io.files import read_clips
from eyetoy_video.transforms.sampling import ClipSampling


def read_stored_clips(
    stored: dict[str, Any], sampling: ClipSampling, *, name: str, short_side: int | None, decoder: Decoder
) -> Tensor:
    """Read clips of an undecoded video of `datasets`; see `read_clips`.

    Args:
        stored: its `bytes`, or the `path` of a file.
        sampling: chooses the frames.
        name: name for messages if it has no path.
        short_side: see `read_clips`.
        decoder: the library that decodes.
    """
    content, label = stored_content(stored, name), stored["path"] or name
    return read_clips(content, sampling, short_side=short_side, decoder=decoder, name=label)
