"""What a waveform goes through before it is an example: augmentation, one length, one level.

Every waveform is ``[1, samples]``, floating point. Chance comes from torch's global generator alone, which whoever
loads the data seeds for each example.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# The level that `normalize_level` brings a waveform to, and the level of what it takes for silence.
LEVEL = 0.1
SILENCE = 1e-4


def fit_length(waveform: Tensor, samples: int) -> Tensor:
    """Crop around the center, or pad both sides with zeros, to exactly ``samples``.

    Args:
        waveform: ``[1, length]``; ``length`` may be zero.
        samples: the wanted length, positive.

    Returns:
        ``[1, samples]``. Where the difference is odd, the extra sample is cut or added at the end.

    Raises:
        ValueError: if the shape is another one or ``samples`` is not positive.
    """
    _check_waveform(waveform)
    _check(samples > 0, "samples", samples, "positive")
    missing = samples - waveform.shape[-1]
    before = abs(missing) // 2
    if missing >= 0:
        return F.pad(waveform, (before, missing - before))
    return waveform[:, before : before + samples]


def normalize_level(waveform: Tensor) -> Tensor:
    """Scale to the root mean square :data:`LEVEL`, so that a recording's level tells nothing.

    What is quieter than :data:`SILENCE` is scaled as if it had that level: silence stays silence.

    Args:
        waveform: ``[1, samples]``.

    Returns:
        ``[1, samples]``.

    Raises:
        ValueError: if the shape is another one.
    """
    _check_waveform(waveform)
    return waveform * (LEVEL / _level(waveform).clamp_min(SILENCE))


@dataclass(frozen=True)
class Fit:
    """What an example goes through when a model is tested or used: one length, one level.

    Attributes:
        samples: the length that it returns.
    """

    samples: int

    def __call__(self, waveform: Tensor) -> Tensor:
        """``[1, length]`` to ``[1, samples]``."""
        return normalize_level(fit_length(waveform, self.samples))


@dataclass(frozen=True)
class Augment:
    """What an example goes through in training: random speed, place and noise, one length, one level, random gain.

    Attributes:
        samples: the length that it returns.
        speed: the largest relative change of the speed, and of the pitch with it: with 0.1, from 1 / 1.1 to 1.1.
        shift: how far it moves at most, earlier or later, as a part of ``samples``.
        noise_probability: how often there is noise, from 0 to 1.
        snr: the least and the largest ratio of the waveform's power to the noise's, both over all the samples, in dB.
        noise_color: the largest fall of the noise's power with the frequency, as an exponent: 0 is white, 1 pink, 2
            brown noise.
        gain: the largest change of the level, up or down, in dB. It comes last, or the one level would undo it.

    Raises:
        ValueError: if a value is out of its range.
    """

    samples: int
    speed: float = 0.1
    shift: float = 0.1
    noise_probability: float = 0.5
    snr: tuple[float, float] = (10.0, 40.0)
    noise_color: float = 2.0
    gain: float = 6.0

    def __post_init__(self) -> None:
        _check(self.samples > 0, "samples", self.samples, "positive")
        _check(0 <= self.noise_probability <= 1, "noise_probability", self.noise_probability, "from 0 to 1")
        _check(self.snr[0] <= self.snr[1], "snr", self.snr, "the least, then the largest")
        for name in ("speed", "shift", "noise_color", "gain"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")

    def __call__(self, waveform: Tensor) -> Tensor:
        """``[1, length]`` to ``[1, samples]``."""
        waveform = change_speed(waveform, (1 + self.speed) ** _draw(-1, 1))
        waveform = place(waveform, self.samples, round(self.samples * self.shift * _draw(-1, 1)))
        if _draw(0, 1) < self.noise_probability:
            waveform = add_noise(waveform, _draw(*self.snr), _draw(0, self.noise_color))
        return normalize_level(waveform) * _ratio(_draw(-self.gain, self.gain))


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Play ``[1, length]`` ``factor`` times as fast, and as high: ``[1, length / factor]``, by linear interpolation."""
    _check_waveform(waveform)
    length = round(waveform.shape[-1] / factor)
    if length in (0, waveform.shape[-1]):
        return waveform
    return F.interpolate(waveform[None], size=length, mode="linear")[0]


def place(waveform: Tensor, samples: int, offset: int) -> Tensor:
    """:func:`fit_length`, with the waveform ``offset`` samples later (or earlier, if negative) than centered."""
    # Twice the offset at one side moves the center by it; a waveform longer than `samples` then shows more of that end.
    return fit_length(F.pad(waveform, (2 * max(offset, 0), 2 * max(-offset, 0))), samples)


def add_noise(waveform: Tensor, snr: float, color: float) -> Tensor:
    """Add noise from torch's global generator.

    Args:
        waveform: ``[1, samples]``, at least one sample. Silence gets noise as if it had the level :data:`SILENCE`.
        snr: the ratio of the waveform's power to the noise's, in dB.
        color: the noise's power falls with the frequency to this power: 0 is white, 1 pink, 2 brown noise.

    Returns:
        ``[1, samples]``.
    """
    _check_waveform(waveform)
    spectrum = torch.fft.rfft(torch.randn_like(waveform))
    # The constant part would be infinitely loud: it gets the level of the lowest frequency.
    frequency = torch.arange(spectrum.shape[-1], device=waveform.device).clamp_min(1)
    noise: Tensor = torch.fft.irfft(spectrum * frequency ** (-color / 2), n=waveform.shape[-1])
    return waveform + noise * (_level(waveform).clamp_min(SILENCE) * _ratio(-snr) / _level(noise))


def _level(waveform: Tensor) -> Tensor:
    """The root mean square, a scalar."""
    return waveform.square().mean().sqrt()


def _ratio(decibels: float) -> float:
    """The ratio of two levels (not powers)."""
    return 10 ** (decibels / 20)


def _draw(least: float, largest: float) -> float:
    return float(torch.empty(()).uniform_(least, largest))


def _check(right: bool, name: str, value: object, should_be: str) -> None:
    if not right:
        raise ValueError(f"{name} is {value!r}; it should be {should_be}")


def _check_waveform(waveform: Tensor) -> None:
    if waveform.ndim != 2 or waveform.shape[0] != 1 or not waveform.is_floating_point():
        shape = f"{list(waveform.shape)} of {waveform.dtype}"
        raise ValueError(f"waveform is {shape}; it should be [1, samples] of a floating point type")
