"""Three libraries that decode sound, imported when they are needed: soundfile, PyAV and torchcodec."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eyetoy_train.media.sound.errors import NotSoundError

DecoderName = Literal["soundfile", "pyav", "torchcodec"]

MOST_SAMPLES = 2**29
"""What is read of a file at most, all channels together: 2 GiB as float32."""
# A file is read in blocks, since what it announces may be false: no more memory is taken than it holds samples.
_BLOCK = 2**20


class Decoded(NamedTuple):
    """A decoded file."""

    samples: Tensor
    """``[channels, samples]``, float32, at least one sample."""
    rate: int
    """Samples per second."""
    announced: int | None
    """How many samples of a channel the header announces, if it does and the library tells."""


def decode(content: bytes, decoder: DecoderName) -> Decoded:
    """Decode a whole file.

    Raises:
        NotSoundError: if the library cannot read it, or it holds no samples, or more than `MOST_SAMPLES`.
    """
    decoded = _DECODERS[decoder](content)
    if decoded.samples.numel() > MOST_SAMPLES:
        raise _too_long()
    return decoded


class _File(io.BytesIO):
    """A file in memory that stays where it is if told to go before its start, as one on disk does."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, and return where that is."""
        with suppress(ValueError):
            super().seek(offset, whence)
        return self.tell()


def _by_soundfile(content: bytes) -> Decoded:
    import soundfile

    try:
        with soundfile.SoundFile(_File(content)) as file:
            return Decoded(_join(_soundfile_blocks(file), axis=0).T, file.samplerate, file.frames)
    except soundfile.LibsndfileError as error:
        raise NotSoundError(f"libsndfile cannot read it ({error.error_string})") from error


def _soundfile_blocks(file: Any) -> Iterator[np.ndarray[Any, Any]]:
    while len(block := file.read(max(_BLOCK // file.channels, 1), dtype="float32", always_2d=True)):
        yield block


def _by_pyav(content: bytes) -> Decoded:
    import av

    try:
        with av.open(io.BytesIO(content), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise NotSoundError("it has no sound track", "it should have one")
            stream = container.streams.audio[0]
            samples = _join(_pyav_blocks(container, av.AudioResampler(format="fltp")), axis=1)
            return Decoded(samples, stream.rate, _announced_by_pyav(stream))
    except av.FFmpegError as error:
        raise NotSoundError(f"FFmpeg cannot read it ({error.strerror})") from error


def _announced_by_pyav(stream: Any) -> int | None:
    return None if stream.duration is None else round(stream.duration * stream.time_base * stream.rate)


def _pyav_blocks(container: Any, to_float: Any) -> Iterator[np.ndarray[Any, Any]]:
    forms = set()
    for coded in container.decode(audio=0):
        for frame in to_float.resample(coded):
            forms.add((frame.sample_rate, frame.layout.nb_channels))
            if len(forms) > 1:
                raise NotSoundError("its sample rate or number of channels changes midway", "both should stay")
            yield frame.to_ndarray()


def _by_torchcodec(content: bytes) -> Decoded:
    from torchcodec.decoders import AudioDecoder

    try:
        decoder = AudioDecoder(content)
        decoded = decoder.get_all_samples()
    except (RuntimeError, ValueError) as error:
        reason = re.sub(r"^.*\.cpp:\d+, ", "", str(error).partition("\n")[0]).strip()
        raise NotSoundError(f"torchcodec cannot read it ({reason})") from error
    seconds = decoder.metadata.duration_seconds_from_header
    return Decoded(decoded.data, decoded.sample_rate, None if seconds is None else round(seconds * decoded.sample_rate))


_DECODERS: dict[DecoderName, Callable[[bytes], Decoded]] = {
    "soundfile": _by_soundfile,
    "pyav": _by_pyav,
    "torchcodec": _by_torchcodec,
}


def _join(blocks: Iterable[np.ndarray[Any, Any]], axis: int) -> Tensor:
    kept, total = [], 0
    for block in blocks:
        kept.append(block)
        total += block.size
        if total > MOST_SAMPLES:
            raise _too_long()
    if not total:
        raise NotSoundError("it holds no samples", "it should hold at least one")
    return torch.from_numpy(np.concatenate(kept, axis))


def _too_long() -> NotSoundError:
    return NotSoundError(f"it holds more than {MOST_SAMPLES} samples", "it should be cut into shorter ones")
