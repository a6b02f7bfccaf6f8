"""How a sound looks in a report, and the file that plays it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

WINDOW, HOP = 256, 64
FLOOR = -60.0
"""Decibels below the loudest place of a spectrogram that are drawn black."""
SILENT = -40.0
"""Decibels that count as loudest where nothing is louder, so that silence is black."""


def draw_sound(axes: Axes, waveform: Tensor) -> None:
    """Draw a waveform `[1, samples]`, and below it its spectrogram, time from left to right, low frequencies below."""
    decibels, loudest = spectrogram(waveform[0])
    shape: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": (0, 1, 0, 1), "cmap": "magma"}
    axes.imshow(decibels, vmin=loudest + FLOOR, vmax=loudest, **shape)
    signal = waveform[0].numpy()
    place = np.linspace(0, 1, len(signal))
    peak = max(float(np.abs(signal).max()), 1e-9)
    axes.fill_between([0, 1], 1, 1.5, color="white")
    axes.plot(place, 1.25 + 0.24 * signal / peak, color="#24292f", linewidth=0.4)
    axes.set(xlim=(0, 1), ylim=(0, 1.5))


def spectrogram(waveform: Tensor) -> tuple[NDArray[np.float32], float]:
    """Return the decibels of a waveform `[samples]`, `[frequencies, frames]`, and what is drawn brightest."""
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(waveform, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)
    decibels: NDArray[np.float32] = (20 * spectrum.abs().clamp_min(1e-9).log10()).numpy()
    return decibels, max(float(decibels.max()), SILENT)


def write_wav(waveform: Tensor, sample_rate: int, path: Path) -> None:
    """Write a waveform `[1, samples]` of any level as 16-bit PCM, as loud as it can be without clipping."""
    path.parent.mkdir(parents=True, exist_ok=True)
    peak = max(float(waveform.abs().max()), 1e-9)
    soundfile.write(path, (0.95 * waveform[0] / peak).numpy(), sample_rate, subtype="PCM_16")
