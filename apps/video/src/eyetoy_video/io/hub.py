"""Videos as Hugging Face's `datasets` stores them."""

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
    """Read clips of an undecoded video of `datasets`, as `read_clips` does.

    Args:
        stored: its `bytes`, or the `path` where they lie.
        sampling: which frames.
        name: what to call it in messages, if it has no path.
        short_side: of larger frames after scaling down.
        decoder: the library that decodes.
    """
    content, called = stored_content(stored), stored["path"] or name
    return read_clips(content, sampling, short_side=short_side, decoder=decoder, name=called)
