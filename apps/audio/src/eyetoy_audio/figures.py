"""Draw sounds for a report, and write the files that play them there."""

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
"""Decibels, relative to the loudest point of a spectrogram, that are drawn black."""
SILENT = -40.0
"""Least value of the loudest point in decibels, so that silence is drawn black."""


def draw_sound(axes: Axes, waveform: Tensor) -> None:
    """Draw a waveform `[1, samples]` above its spectrogram, with time to the right and high frequencies up."""
    decibels, loudest = spectrogram(waveform[0])
    shape: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": (0, 1, 0, 1), "cmap": "magma"}
    axes.imshow(decibels, vmin=loudest + FLOOR, vmax=loudest, **shape)
    signal = waveform[0].numpy()
    time = np.linspace(0, 1, len(signal))
    peak = max(float(np.abs(signal).max()), 1e-9)
    # One pair of axes for both: the spectrogram is from 0 to 1, the waveform in a strip from 1 to 1.5 above it.
    axes.fill_between([0, 1], 1, 1.5, color="white")
    axes.plot(time, 1.25 + 0.24 * signal / peak, color="#24292f", linewidth=0.4)
    axes.set(xlim=(0, 1), ylim=(0, 1.5))


def spectrogram(waveform: Tensor) -> tuple[NDArray[np.float32], float]:
    """Return the decibels `[frequencies, frames]` of a waveform `[samples]`, and the value to draw brightest."""
    window = torch.hann_window(WINDOW)
    # Zeros at both ends: the default, reflection, fails for sounds shorter than half a window.
    spectrum = torch.stft(waveform, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)
    decibels: NDArray[np.float32] = (20 * spectrum.abs().clamp_min(1e-9).log10()).numpy()
    return decibels, max(float(decibels.max()), SILENT)


def write_wav(waveform: Tensor, sample_rate: int, path: Path) -> None:
    """Write a waveform `[1, samples]` of any level as 16-bit PCM, scaled to a peak of 0.95."""
    path.parent.mkdir(parents=True, exist_ok=True)
    peak = max(float(waveform.abs().max()), 1e-9)
    soundfile.write(path, (0.95 * waveform[0] / peak).numpy(), sample_rate, subtype="PCM_16")
