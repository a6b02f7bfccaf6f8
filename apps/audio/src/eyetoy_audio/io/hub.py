"""Sounds as Hugging Face's `datasets` stores them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from eyetoy_audio.io.files import EXTENSIONS, read_sound, read_sound_bytes
from eyetoy_train.data.hub import stored_content
from eyetoy_train.media.decoders import Decoder
from eyetoy_train.media.kinds import sound_kind


def read_stored_sound(stored: dict[str, Any], name: str, sample_rate: int, decoder: Decoder = "auto") -> Tensor:
    """Return the waveform `[1, samples]` of an undecoded sound of `datasets`; errors as in `read_sound`.

    Args:
        stored: its `bytes`, or the `path` where they lie. A path beside the bytes is its name.
        name: what to call it in messages, if it has no path.
        sample_rate: in Hz; the sound is resampled to it.
        decoder: the library that decodes.
    """
    content = stored_content(stored)
    if isinstance(content, Path):
        return read_sound(content, sample_rate, decoder)
    # The first part of zip://a.wav::hf://datasets/owner/name/sounds.zip is the file's name.
    called = (stored["path"] or name).split("::")[0]
    # A set may store bytes without a name, or under one of its own. Reading asks for a suffix of sound, so the content
    # gives one; ".wav" stands for content that is of no known kind, which decoding then refuses.
    if PurePosixPath(called).suffix.lower() not in EXTENSIONS:
        called = f"{called}.{sound_kind(content, '.wav').removeprefix('streamed ')}"
    return read_sound_bytes(content, called, sample_rate, decoder)
