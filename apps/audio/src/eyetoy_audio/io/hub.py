"""Read sounds stored by Hugging Face's `datasets`."""

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
        stored: its `bytes`, or the `path` of a file. With bytes, the path is only a name.
        name: name for messages if it has no path.
        sample_rate: in Hz; the sound is resampled to it.
        decoder: the library that decodes.
    """
    content = stored_content(stored, name)
    if isinstance(content, Path):
        return read_sound(content, sample_rate, decoder)
    # The first part of zip://a.wav::hf://datasets/owner/name/sounds.zip is the file's name.
    label = (stored["path"] or name).split("::")[0]
    # A set may store bytes without a name, or with any. Reading requires a suffix of sound, so it is detected from the
    # content; content of no known format gets ".wav" and is refused by the decoder.
    if PurePosixPath(label).suffix.lower() not in EXTENSIONS:
        label = f"{label}.{sound_kind(content, '.wav').removeprefix('streamed ')}"
    return read_sound_bytes(content, label, sample_rate, decoder)
