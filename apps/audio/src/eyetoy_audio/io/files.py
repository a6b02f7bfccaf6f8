"""Read sound files to tensors: mono, float32, at a given sample rate."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyetoy_train.data.unreadable import UnreadableFileError, refused_sample
from eyetoy_train.media.decoders import Decoder
from eyetoy_train.media.errors import NotSoundError
from eyetoy_train.media.kinds import SOUND_KINDS

if TYPE_CHECKING:
    from torch import Tensor, nn

EXTENSIONS = tuple(SOUND_KINDS)
"""Suffixes of the files that `read_sound` reads, in lower case."""
MOST_BYTES = 2**32
"""Largest size of a file."""
MOST_RESAMPLED = 2**29
"""Most samples after resampling: 2 GiB as float32. A short file with a false, low rate would become far longer."""
MOST_CHANNELS = 32
"""Of an array: one with more has its axes in the other order."""
MOST_TAPS = 2**20
"""Most taps of a resampling filter over all its phases; two usual rates need fewer."""


class UnreadableSoundError(UnreadableFileError):
    """A sound cannot be read. The message names the file, its fault and the expected value."""


def read_sound(path: Path, sample_rate: int, decoder: Decoder = "auto") -> Tensor:
    """Read a whole sound file; see `read_sound_bytes`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableSoundError: the file cannot be read; see there.
    """
    _check_rate(sample_rate)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or not a file; it should be a sound file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UnreadableSoundError(f"{path}: the file has {size} bytes; it should have {MOST_BYTES} at most")
    return read_sound_bytes(path.read_bytes(), str(path), sample_rate, decoder)


def read_sound_bytes(content: bytes, name: str, sample_rate: int, decoder: Decoder = "auto") -> Tensor:
    """Read the content of a sound file.

    A truncated file is refused where the format shows it: to the byte in wav, flac, aiff, caf, w64, m4a and wma, within
    a page in ogg and opus, from four frames on in an mp3 file with a frame count, not in aac, mka and webm. A damaged
    page of ogg and opus is refused too, and a damaged frame of flac by soundfile and PyAV. Several sounds in one file,
    such as a chained ogg, are joined. Memory is allocated for the samples that are present, not for the number in the
    header.

    Args:
        content: content of the file.
        name: its path, or another name for messages. Its suffix, in lower case, must be one of `EXTENSIONS`. The
            format is detected from the content first.
        sample_rate: in Hz; the sound is resampled to it.
        decoder: the library that decodes; "auto" is the best one installed that knows the file, see
            `describe_decoders`.

    Returns:
        the mean of the channels, float32 `[1, samples]`. Integer samples are scaled to [-1, 1]; floating point and
        compressed ones may exceed it.

    Raises:
        UnreadableSoundError: the content is of no known format; is damaged or truncated; has no samples, more than fit
            in memory, or some that are not finite; or has an impossible sample rate.
        MissingDecoderError: the decoder, or every one for this format, is not installed.
        ValueError: `sample_rate` is not positive.
    """
    from eyetoy_train.media.sound import decode_checked  # slow to import: `--help` needs only EXTENSIONS

    _check_rate(sample_rate)
    try:
        decoded = decode_checked(content, name, decoder)
        return _resample(decoded.samples.mean(dim=0, keepdim=True), decoded.rate, sample_rate)
    except NotSoundError as error:
        raise UnreadableSoundError(f"{name}: {error}") from error


def read_array(given: Any, rate: float | None, sample_rate: int) -> Tensor:
    """Return a sound in memory as `read_sound` returns a file.

    Args:
        given: float32 or float64 `[samples]` or `[channels, samples]`; integers of a file are scaled to [-1, 1] first.
        rate: its samples per second.
        sample_rate: in Hz; the sound is resampled to it.

    Raises:
        ValueError: it is no sound, or some samples are not finite; or `rate` is missing, or not a positive integer.
    """
    import numpy as np
    import torch

    is_sound = isinstance(given, np.ndarray) and given.ndim in (1, 2) and given.size > 0
    if not is_sound or given.dtype not in (np.float32, np.float64) or (given.ndim == 2 and len(given) > MOST_CHANNELS):
        raise refused_sample(
            given, f"or float32 or float64 [samples] or [channels, samples], with at most {MOST_CHANNELS} channels"
        )
    if rate is None:
        raise ValueError("an array does not tell its samples per second; give them as rate, such as rate=44100")
    if rate <= 0 or rate != int(rate):
        raise ValueError(f"rate must be a positive integer, the samples per second; got {rate:g}")
    samples = torch.from_numpy(np.ascontiguousarray(np.atleast_2d(given), dtype=np.float32))
    if not samples.isfinite().all():
        raise ValueError("a sound must have finite samples; the array holds NaN or infinity")
    return _resample(samples.mean(dim=0, keepdim=True), int(rate), sample_rate)


def _check_rate(sample_rate: int) -> None:
    if sample_rate <= 0:
        raise ValueError(f"sample_rate is {sample_rate}; it should be positive, such as 16000")


def _resample(waveform: Tensor, rate: int, sample_rate: int) -> Tensor:
    """Resample `[1, samples]` from `rate` to `sample_rate`."""
    samples = waveform.shape[1] * sample_rate / rate  # computed first: nothing is allocated for a false rate
    if samples > MOST_RESAMPLED:
        wrong = f"its {waveform.shape[1]} samples, {rate} per second, are {samples:.3g} at {sample_rate}"
        raise NotSoundError(wrong, f"they should be {MOST_RESAMPLED} at most")
    resampled: Tensor = _resampler(rate, sample_rate)(waveform)
    return resampled


@lru_cache(maxsize=16)  # a data set has few rates, and making a filter takes longer than applying it
def _resampler(rate: int, sample_rate: int) -> nn.Module:
    # The filter has a phase for every output sample of the shortest common period of both rates. From 48000 to 16000
    # that is one phase; from 11127 to 16000 it is 16000 phases and would take gigabytes. Such a ratio is replaced by a
    # near one, within 1 / 2000: less than a hundredth of a semitone.
    ratio = Fraction(max(rate, sample_rate), min(rate, sample_rate))
    near = ratio.limit_denominator(max(math.isqrt(int(MOST_TAPS / ratio)), 1))
    before, after = near.as_integer_ratio() if rate > sample_rate else near.as_integer_ratio()[::-1]
    import torchaudio

    resampler: nn.Module = torchaudio.transforms.Resample(before, after)
    return resampler
