"""One length and one level for waveforms, as evaluations hear them; in training after `augmentation`.

Every waveform is `[1, samples]`, floating point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy_train import Batch

LEVEL = 0.1
"""The root mean square that `normalize_level` scales a waveform to."""
SILENCE = 1e-4
"""A level that is taken for silence."""


def fit_length(waveform: Tensor, samples: int) -> Tensor:
    """Crop around the center, or pad both sides with zeros, to exactly `samples`.

    Args:
        waveform: `[1, length]`; `length` may be zero.
        samples: the wanted length, positive.

    Returns:
        `[1, samples]`. Where the difference is odd, the extra sample is cut or added at the end.

    Raises:
        ValueError: the shape is another one or `samples` is not positive.
    """
    check_waveform(waveform)
    check_value(samples > 0, "samples", samples, "positive")
    missing = samples - waveform.shape[-1]
    before = abs(missing) // 2
    if missing >= 0:
        return F.pad(waveform, (before, missing - before))
    return waveform[:, before : before + samples]


def normalize_level(waveform: Tensor) -> Tensor:
    """Scale to the root mean square `LEVEL`, so that a recording's level tells nothing.

    A waveform quieter than `SILENCE` is scaled as if it had that level: silence stays silence.

    Args:
        waveform: `[1, samples]`.

    Returns:
        `[1, samples]`.

    Raises:
        ValueError: the shape is another one.
    """
    check_waveform(waveform)
    return waveform * (LEVEL / level(waveform).clamp_min(SILENCE))


@dataclass(frozen=True)
class Fit:
    """The transform of an example when a model is tested or used: one length, one level.

    Attributes:
        samples: the length that it returns.
    """

    samples: int

    def __call__(self, waveform: Tensor) -> Tensor:
        """Map `[1, length]` to `[1, samples]`."""
        return normalize_level(fit_length(waveform, self.samples))


def windows(waveform: Tensor, samples: int, count: int) -> list[Tensor]:
    """Cut `[1, length]` into `count` parts of `samples`, evenly spread from its start to its end.

    One is cut from the middle. A waveform that is no longer than `samples` is each of them as it is.
    """
    check_waveform(waveform)
    excess = max(waveform.shape[-1] - samples, 0)
    # For example 10 samples in 3 windows of 4: the excess is 6, and they start at 0, 3 and 6.
    starts = [excess // 2] if count == 1 else [round(excess * i / (count - 1)) for i in range(count)]
    return [waveform[:, start : start + samples] for start in starts]


@dataclass(frozen=True)
class HeardWindows:
    """The windows of an evaluation (`AudioClassification.example`) by tensor operations alone, for exported models.

    It takes a batch of clips of one length, which may be any. A traced program learns that length only when it runs: so
    it is a tensor here, and places are computed, where `windows` and `fit_length` cut and pad.

    Attributes:
        samples: length of a window.
        count: number of windows.
        pads: put silence around a clip that is shorter than a window; or after it, and return where it ends.
    """

    samples: int
    count: int
    pads: bool

    def __call__(self, clips: Tensor) -> Batch:
        """Return windows `[batch * count, 1, samples]` of unit level as `input`, of `[batch, length]`.

        Where padding is left out, their `length` comes with them.
        """
        length = torch.ones_like(clips[0], dtype=torch.int64).sum()  # clips.shape[1] would be a constant of the trace
        missing = (self.samples - length).clamp_min(0)
        before = missing // 2 if self.pads else torch.zeros_like(missing)
        place = torch.arange(self.samples, device=clips.device) - before  # negative where silence is first
        starts = self._starts((length - self.samples).clamp_min(0))[:, None]
        found = clips[:, (place + starts).clamp_min(0).minimum(length - 1)]  # [batch, count, samples]
        x = (found * ((place >= 0) & (place < length))).flatten(0, 1)[:, None]
        heard = torch.full_like(length, self.samples) if self.pads else length.clamp_max(self.samples)
        level = (x.square().sum(-1, keepdim=True) / heard).sqrt()
        batch: Batch = {"input": x / level.clamp_min(SILENCE)}
        return batch if self.pads else batch | {"length": heard.expand(x.shape[0])}

    def _starts(self, excess: Tensor) -> Tensor:
        """Return where windows begin, `[count]`, as `windows` does."""
        if self.count == 1:
            return (excess // 2)[None]
        steps = torch.arange(self.count, device=excess.device)
        return (excess.double() * steps / (self.count - 1)).round().long()  # in float64, as Python divides


def level(waveform: Tensor) -> Tensor:
    """Return the root mean square, a scalar."""
    return waveform.square().mean().sqrt()


def check_waveform(waveform: Tensor, name: str = "waveform") -> None:
    """Refuse other shapes than `[1, samples]`, and integers, by a ValueError."""
    if waveform.ndim != 2 or waveform.shape[0] != 1 or not waveform.is_floating_point():
        shape = f"{list(waveform.shape)} of {waveform.dtype}"
        raise ValueError(f"{name} is {shape}; it should be [1, samples] of a floating point type")


def check_value(right: bool, name: str, value: object, should_be: str) -> None:
    """Refuse a value by a ValueError that says which it should be."""
    if not right:
        raise ValueError(f"{name} is {value!r}; it should be {should_be}")
