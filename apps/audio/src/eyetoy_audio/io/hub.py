"""Sounds as Hugging Face's `datasets` stores them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from eyetoy_audio.io.files import EXTENSIONS, read_sound, read_sound_bytes
from eyetoy_train.data.hub import stored_content
from eyetoy_train.media.sound import Decoder
from eyetoy_train.media.sound.kinds import kind_of


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
    # Of zip://a.wav::hf://datasets/owner/name/sounds.zip, the first part is the file's name.
    called = (stored["path"] or name).split("::")[0]
    return read_sound_bytes(content, _with_suffix(called, content), sample_rate, decoder)


def _with_suffix(name: str, content: bytes) -> str:
    """Return a name that promises sound, as reading asks for; which kind it is, the content tells."""
    if PurePosixPath(name).suffix.lower() in EXTENSIONS:
        return name
    return f"{name}.{kind_of(content, '.wav').removeprefix('streamed ')}"
