"""Reverberation: waveforms as a room would sound, one that is made up or one that was measured.

Every waveform is ``[1, samples]``, floating point. Chance comes from torch's global generator alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from eyetoy_audio.transforms.noise import NOTHING, check_waveform, kept_sound, level, random_file, ratio


def synthetic_response(sample_rate: int, rt60: float, direct_ratio: float) -> Tensor:
    """Make up a room's impulse response: the direct sound, then noise that dies away exponentially.

    This is the diffuse part of a room's response as Polack describes it (La transmission de l'énergie sonore dans les
    salles, 1988), without single early reflections.

    Args:
        sample_rate: in Hz.
        rt60: seconds until the reverberation is 60 dB weaker; the response ends there.
        direct_ratio: the ratio of the direct sound's energy to that of all the rest, in dB.

    Returns:
        ``[1, samples]``, float32; the first sample is 1.

    Raises:
        ValueError: if ``rt60`` is shorter than a sample.
    """
    length = round(sample_rate * rt60)
    if length < 1:
        raise ValueError(f"rt60 is {rt60!r}; it should be at least one sample, {1 / sample_rate:.2g} seconds")
    tail = torch.randn(length) * 10 ** (-3 * torch.arange(1, length + 1) / length)
    return torch.cat([torch.ones(1), tail * (ratio(-direct_ratio) / tail.norm())])[None]


def recorded_response(folder: Path, sample_rate: int) -> Tensor:
    """Return a random one of the measured impulse responses of a folder, from its direct sound on.

    The direct sound is taken to be the loudest sample.

    Args:
        folder: where the sound files lie, or in folders in it.
        sample_rate: in Hz.

    Returns:
        ``[1, samples]``.

    Raises:
        FileNotFoundError: if the folder holds no sound file.
        ValueError: if the file that was drawn is silent.
    """
    path = random_file(folder)
    recording = kept_sound(path, sample_rate)
    if not recording.any():
        raise ValueError(f"{path} is silent; it should be a room's impulse response")
    return recording[:, int(recording.abs().argmax()) :]


def reverberate(waveform: Tensor, response: Tensor) -> Tensor:
    """Let a waveform sound as in the room that has this impulse response.

    Args:
        waveform: ``[1, samples]``, at least one sample.
        response: ``[1, length]``, at least one sample, the direct sound first: it then comes no later than it was.

    Returns:
        ``[1, samples]``, of the same level; what would sound longer is cut.

    Raises:
        ValueError: if a shape is another one.
    """
    check_waveform(waveform)
    check_waveform(response, "response")
    samples = waveform.shape[-1]
    response = response[:, :samples].to(waveform)
    # A power of two that holds both: other lengths can take six times as long.
    size = 1 << (samples + response.shape[-1] - 2).bit_length()
    spectrum = torch.fft.rfft(waveform, n=size) * torch.fft.rfft(response, n=size)
    heard: Tensor = torch.fft.irfft(spectrum, n=size)[:, :samples]
    return heard * (level(waveform) / level(heard).clamp_min(NOTHING))
