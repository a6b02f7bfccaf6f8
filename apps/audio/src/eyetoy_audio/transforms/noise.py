"""Noise at a chosen signal-to-noise ratio: of a color, or an excerpt of a recording.

Every waveform is ``[1, samples]``, floating point. Chance comes from torch's global generator alone.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from eyetoy_audio.io.files import EXTENSIONS, read_sound

# A level that is taken for silence, and one that no division needs to go below.
SILENCE = 1e-4
NOTHING = 1e-12
# How many decoded files of noises or impulse responses each process keeps in memory.
KEPT_SOUNDS = 32


def add_noise(waveform: Tensor, snr: float, color: float) -> Tensor:
    """Add noise from torch's global generator.

    Args:
        waveform: ``[1, samples]``, at least one sample. Silence gets noise as if it had the level :data:`SILENCE`.
        snr: the ratio of the waveform's power to the noise's, in dB.
        color: the noise's power falls with the frequency to this power: 0 is white, 1 pink, 2 brown noise.

    Returns:
        ``[1, samples]``.

    Raises:
        ValueError: if the shape is another one.
    """
    check_waveform(waveform)
    spectrum = torch.fft.rfft(torch.randn_like(waveform))
    # The constant part would be infinitely loud: it gets the level of the lowest frequency.
    frequency = torch.arange(spectrum.shape[-1], device=waveform.device).clamp_min(1)
    noise = torch.fft.irfft(spectrum * frequency ** (-color / 2), n=waveform.shape[-1])
    return _add(waveform, noise, snr)


def add_background(waveform: Tensor, recording: Tensor, snr: float) -> Tensor:
    """Add a random excerpt of a recording.

    Args:
        waveform: ``[1, samples]``, at least one sample. Silence gets noise as if it had the level :data:`SILENCE`.
        recording: ``[1, length]``, at least one sample. A shorter one is repeated. Where the excerpt is silence,
            nothing is added.
        snr: the ratio of the waveform's power to the excerpt's, in dB.

    Returns:
        ``[1, samples]``.

    Raises:
        ValueError: if a shape is another one.
    """
    check_waveform(waveform)
    check_waveform(recording, "recording")
    return _add(waveform, excerpt(recording, waveform.shape[-1]).to(waveform), snr)


def excerpt(recording: Tensor, samples: int) -> Tensor:
    """Cut ``[1, samples]`` out of ``[1, length]`` at a random place; a shorter recording goes round in a circle."""
    length = recording.shape[-1]
    start = torch.randint(length - samples + 1 if length >= samples else length, ())
    return recording[:, (start + torch.arange(samples)) % length]


def random_file(folder: Path) -> Path:
    """Return one of the sound files of a folder and the folders in it.

    Raises:
        FileNotFoundError: if there is none.
    """
    files = _sound_files(folder)
    return files[int(torch.randint(len(files), ()))]


@lru_cache(maxsize=KEPT_SOUNDS)
def kept_sound(path: Path, sample_rate: int) -> Tensor:
    """Read a file as :func:`read_sound` does, or return what was read before; it is not to be changed in place."""
    return read_sound(path, sample_rate)


@lru_cache
def _sound_files(folder: Path) -> tuple[Path, ...]:
    files = tuple(path for path in sorted(folder.rglob("*")) if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not files:
        raise FileNotFoundError(
            f"found no sound file in {folder}; it should hold files ending in {', '.join(EXTENSIONS)}"
        )
    return files


def level(waveform: Tensor) -> Tensor:
    """Return the root mean square, a scalar."""
    return waveform.square().mean().sqrt()


def ratio(decibels: float) -> float:
    """Return the ratio of two levels (not powers)."""
    return 10 ** (decibels / 20)


def check_waveform(waveform: Tensor, name: str = "waveform") -> None:
    """Refuse other shapes than ``[1, samples]``, and integers, by a ValueError."""
    if waveform.ndim != 2 or waveform.shape[0] != 1 or not waveform.is_floating_point():
        shape = f"{list(waveform.shape)} of {waveform.dtype}"
        raise ValueError(f"{name} is {shape}; it should be [1, samples] of a floating point type")


def _add(waveform: Tensor, noise: Tensor, snr: float) -> Tensor:
    return waveform + noise * (level(waveform).clamp_min(SILENCE) * ratio(-snr) / level(noise).clamp_min(NOTHING))
