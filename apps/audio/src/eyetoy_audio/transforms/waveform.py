"""What a waveform goes through before it is an example: augmentation, one length, one level.

Every waveform is ``[1, samples]``, floating point. Chance comes from torch's global generator alone, which whoever
loads the data seeds for each example.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta

from eyetoy_audio.recipe import WaveformAugmentation
from eyetoy_audio.transforms.noise import (
    SILENCE,
    add_background,
    add_noise,
    check_waveform,
    kept_sound,
    level,
    random_file,
    ratio,
)
from eyetoy_audio.transforms.reverberation import recorded_response, reverberate, synthetic_response

# The level that `normalize_level` brings a waveform to.
LEVEL = 0.1


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
    check_waveform(waveform)
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
    check_waveform(waveform)
    return waveform * (LEVEL / level(waveform).clamp_min(SILENCE))


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


def windows(waveform: Tensor, samples: int, count: int) -> list[Tensor]:
    """Cut ``[1, length]`` into ``count`` parts of ``samples``, evenly spread from its start to its end.

    One is cut from the middle. A waveform that is no longer than ``samples`` is each of them as it is.
    """
    check_waveform(waveform)
    excess = max(waveform.shape[-1] - samples, 0)
    starts = [excess // 2] if count == 1 else [round(excess * i / (count - 1)) for i in range(count)]
    return [waveform[:, start : start + samples] for start in starts]


@dataclass(frozen=True)
class Augment(WaveformAugmentation):
    """What an example goes through in training: random speed, place, room and noise, one level, random gain.

    Nothing is clipped: samples may exceed 1.

    Attributes:
        samples: the length that it returns.
        pads: put silence around a waveform that is shorter than ``samples``; otherwise it stays as short as it is.
        sample_rate: of the waveform in Hz, for reverberation and recordings.

    Raises:
        ValueError: if a value is out of its range.
    """

    samples: int
    pads: bool = True
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        for name in ("samples", "sample_rate"):
            _check(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("noise_probability", "reverberation_probability", "background_probability"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for name in ("snr", "rt60", "direct_ratio", "background_snr"):
            least, largest = getattr(self, name)
            _check(least <= largest, name, (least, largest), "the least, then the largest")
        _check(self.rt60[0] > 0, "rt60", self.rt60, "positive")
        has_recordings = self.background_folder is not None or self.background_probability == 0
        _check(has_recordings, "background_folder", None, "a folder where background_probability is above 0")
        for name in ("speed", "shift", "noise_color", "gain"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")

    def __call__(self, waveform: Tensor) -> Tensor:
        """``[1, length]`` to ``[1, samples]``, or, if it does not pad, to fewer samples."""
        waveform = self._place(change_speed(waveform, (1 + self.speed) ** _draw(-1, 1)))
        if _happens(self.reverberation_probability):
            waveform = reverberate(waveform, self._response())
        if self.background_folder is not None and _happens(self.background_probability):
            recording = kept_sound(random_file(Path(self.background_folder)), self.sample_rate)
            waveform = add_background(waveform, recording, _draw(*self.background_snr))
        if _draw(0, 1) < self.noise_probability:
            waveform = add_noise(waveform, _draw(*self.snr), _draw(0, self.noise_color))
        return normalize_level(waveform) * ratio(_draw(-self.gain, self.gain))

    def _place(self, waveform: Tensor) -> Tensor:
        excess = waveform.shape[-1] - self.samples
        if excess <= 0 and not self.pads:
            return waveform
        if self.random_crop and excess > 0:
            start = int(torch.randint(excess + 1, ()))
            return waveform[:, start : start + self.samples]
        return place(waveform, self.samples, round(self.samples * self.shift * _draw(-1, 1)))

    def _response(self) -> Tensor:
        if self.response_folder is not None:
            return recorded_response(Path(self.response_folder), self.sample_rate)
        return synthetic_response(self.sample_rate, _draw(*self.rt60), _draw(*self.direct_ratio))


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Play ``[1, length]`` ``factor`` times as fast, and as high: ``[1, length / factor]``, by linear interpolation."""
    check_waveform(waveform)
    length = round(waveform.shape[-1] / factor)
    if length in (0, waveform.shape[-1]):
        return waveform
    return F.interpolate(waveform[None], size=length, mode="linear")[0]


def place(waveform: Tensor, samples: int, offset: int) -> Tensor:
    """:func:`fit_length`, with the waveform ``offset`` samples later (or earlier, if negative) than centered."""
    # Twice the offset at one side moves the center by it; a waveform longer than `samples` then shows more of that end.
    return fit_length(F.pad(waveform, (2 * max(offset, 0), 2 * max(-offset, 0))), samples)


def mixup(
    x: Tensor, target: Tensor, lengths: Tensor | None = None, *, alpha: float, num_classes: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mix each example of a batch with another one, and their targets likewise (Zhang et al., mixup, ICLR 2018).

    The partners and their share, which is one number for the batch, come from torch's global generator.

    Args:
        x: ``[batch, ...]``, floating point.
        target: labels, ``[batch]``, or the probability of each class, such as 0 or 1, ``[batch, num_classes]``.
        lengths: how much of each example is no padding, ``[batch]``.
        alpha: both parameters of the beta distribution that the share is from.
        num_classes: how many classes there are.

    Returns:
        the mixed examples, the probabilities of their classes, ``[batch, num_classes]``, and the larger of both
        lengths.

    Raises:
        ValueError: if ``alpha`` is not positive.
    """
    _check(alpha > 0, "alpha", alpha, "positive")
    share = float(Beta(alpha, alpha).sample())
    partner = torch.randperm(len(x)).to(x.device)
    probability = (F.one_hot(target, num_classes) if target.ndim == 1 else target).to(x.dtype)
    longest = None if lengths is None else lengths.maximum(lengths[partner])
    return x.lerp(x[partner], share), probability.lerp(probability[partner], share), longest


def _happens(probability: float) -> bool:
    """Draw whether something happens; what never does draws nothing, and so changes no other draw."""
    return probability > 0 and _draw(0, 1) < probability


def _draw(least: float, largest: float) -> float:
    return float(torch.empty(()).uniform_(least, largest))


def _check(right: bool, name: str, value: object, should_be: str) -> None:
    if not right:
        raise ValueError(f"{name} is {value!r}; it should be {should_be}")
