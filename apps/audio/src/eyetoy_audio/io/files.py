"""Sound files as tensors: mono, float32, at the sample rate that is asked for."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torchaudio
from torch import Tensor, nn

from eyetoy_train import UnreadableFileError
from eyetoy_train.media.decoders import Decoder
from eyetoy_train.media.errors import NotSoundError
from eyetoy_train.media.kinds import SOUND_KINDS
from eyetoy_train.media.sound import decode_checked

EXTENSIONS = tuple(SOUND_KINDS)
"""Suffixes of the files that `read_sound` reads, in lower case."""
MOST_BYTES = 2**32
"""Of a file."""
MOST_RESAMPLED = 2**29
"""Samples after resampling: 2 GiB as float32. A short file of a false, low rate would become far longer."""
MOST_TAPS = 2**20
"""Of a resampling filter, all its phases together; it needs fewer between any two usual rates."""


class UnreadableSoundError(UnreadableFileError):
    """A file is not sound that can be used. The message says which file, what is wrong and what would be right."""


def read_sound(path: Path, sample_rate: int, decoder: Decoder = "auto") -> Tensor:
    """Read a whole sound file, as `read_sound_bytes` reads its content.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableSoundError: it cannot be used; see there.
    """
    _check_rate(sample_rate)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or not a file; it should be a sound file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UnreadableSoundError(f"{path}: it is of {size} bytes; it should be of {MOST_BYTES} at most")
    return read_sound_bytes(path.read_bytes(), str(path), sample_rate, decoder)


def read_sound_bytes(content: bytes, name: str, sample_rate: int, decoder: Decoder = "auto") -> Tensor:
    """Read the content of a sound file.

    A file that was cut short is refused where that can be seen: to the byte in wav, flac, aiff, caf, w64, m4a and wma,
    within a page in ogg and opus, from four frames on in an mp3 file that counts them, not in aac, mka and webm. So is
    a damaged page of ogg and opus, and a damaged frame of flac by soundfile. Memory is taken for the samples that are
    there, whatever the header announces.

    Args:
        content: of the file.
        name: its path, or another name for messages. Its suffix, in lower case, must be one of :data:`EXTENSIONS`; the
            content is asked first what kind of sound it is.
        sample_rate: in Hz; the sound is resampled to it.
        decoder: the library that decodes; "auto" takes the best that is there, see `describe_decoders`.

    Returns:
        The mean of the channels, float32 ``[1, samples]``. Integer samples are scaled to [-1, 1]; floating point and
        compressed ones may exceed it.

    Raises:
        UnreadableSoundError: it is no sound of a known kind; is broken or cut short; holds no samples, more than fit in
            memory, or some that are not finite; or has a rate that no sound has.
        MissingDecoderError: the decoder that is asked for, or any that reads this kind, is not there.
        ValueError: ``sample_rate`` is not positive.
    """
    _check_rate(sample_rate)
    try:
        decoded = decode_checked(content, name, decoder)
        return _resample(decoded.samples.mean(dim=0, keepdim=True), decoded.rate, sample_rate)
    except NotSoundError as error:
        raise UnreadableSoundError(f"{name}: {error}") from error


def _check_rate(sample_rate: int) -> None:
    if sample_rate <= 0:
        raise ValueError(f"sample_rate is {sample_rate}; it should be positive, such as 16000")


def _resample(waveform: Tensor, rate: int, sample_rate: int) -> Tensor:
    """``[1, samples]`` at one rate to ``[1, samples]`` at another."""
    samples = waveform.shape[1] * sample_rate / rate
    if samples > MOST_RESAMPLED:
        wrong = f"its {waveform.shape[1]} samples, {rate} per second, are {samples:.3g} at {sample_rate}"
        raise NotSoundError(wrong, f"they should be {MOST_RESAMPLED} at most")
    resampled: Tensor = _resampler(rate, sample_rate)(waveform)
    return resampled


@lru_cache(maxsize=16)
def _resampler(rate: int, sample_rate: int) -> nn.Module:
    # The filter has a phase for every sample of the shortest period that both rates share. Between 48000 and 16000 that
    # is one phase; between 11127 and 16000, which share next to nothing, it is 16000 phases and would take gigabytes.
    # Such a ratio is replaced by one nearby, within 1 / 2000: less than a hundredth of a semitone.
    ratio = Fraction(max(rate, sample_rate), min(rate, sample_rate))
    near = ratio.limit_denominator(max(math.isqrt(int(MOST_TAPS / ratio)), 1))
    before, after = near.as_integer_ratio() if rate > sample_rate else near.as_integer_ratio()[::-1]
    resampler: nn.Module = torchaudio.transforms.Resample(before, after)
    return resampler
