"""Bring waveforms to one length and one level: the preprocessing of an evaluation, and the last step of training's.

Every waveform is `[1, samples]`, floating point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy_train import Batch

LEVEL = 0.1
"""Root mean square of a waveform after `normalize_level`."""
SILENCE = 1e-4
"""Level below which a waveform counts as silence."""
REST = 0.1
"""A rest of a sound shorter than this fraction of a window adds no window."""
MOST_WINDOWS = 256
"""Most windows of a sound in an evaluation, so that recordings of hours fit in memory; further apart in longer ones."""


def fit_length(waveform: Tensor, samples: int) -> Tensor:
    """Crop around the center, or pad both sides with zeros, to exactly `samples`.

    Args:
        waveform: `[1, length]`; `length` may be zero.
        samples: length of the result, positive.

    Returns:
        `[1, samples]`. If the difference is odd, the extra sample is cut or added at the end.

    Raises:
        ValueError: the waveform has another shape, or `samples` is not positive.
    """
    check_waveform(waveform)
    check_value(samples > 0, "samples", samples, "positive")
    missing = samples - waveform.shape[-1]
    before = abs(missing) // 2
    if missing >= 0:
        return F.pad(waveform, (before, missing - before))
    return waveform[:, before : before + samples]


def normalize_level(waveform: Tensor) -> Tensor:
    """Scale to the root mean square `LEVEL`, so that the volume of a recording does not matter.

    A waveform quieter than `SILENCE` is scaled as if it had that level: silence stays silence.

    Args:
        waveform: `[1, samples]`.

    Returns:
        `[1, samples]`.

    Raises:
        ValueError: the waveform has another shape.
    """
    check_waveform(waveform)
    return waveform * (LEVEL / level(waveform).clamp_min(SILENCE))


@dataclass(frozen=True)
class Fit:
    """The transform of an example in evaluation and prediction: one length, one level.

    Attributes:
        samples: length of the result.
    """

    samples: int

    def __call__(self, waveform: Tensor) -> Tensor:
        """Map `[1, length]` to `[1, samples]`."""
        return normalize_level(fit_length(waveform, self.samples))


def num_windows(length: int, samples: int) -> int:
    """Return how many windows of `samples` cover a sound of `length`, at most `MOST_WINDOWS`.

    A rest of less than a tenth of a window adds none: decoders make sounds a little longer than they were.
    """
    return min(max(math.ceil(length / samples - REST), 1), MOST_WINDOWS)


def windows(waveform: Tensor, samples: int, count: int | None) -> list[Tensor]:
    """Cut `[1, length]` into `count` windows of `samples`, evenly spaced from its start to its end.

    A single window is the middle. A waveform not longer than `samples` is returned unchanged, `count` times. Without a
    count there are as many as cover the waveform; see `num_windows`.
    """
    check_waveform(waveform)
    count = count or num_windows(waveform.shape[-1], samples)
    excess = max(waveform.shape[-1] - samples, 0)
    # For example 10 samples in 3 windows of 4: the excess is 6, and they start at 0, 3 and 6.
    starts = [excess // 2] if count == 1 else [round(excess * i / (count - 1)) for i in range(count)]
    return [waveform[:, start : start + samples] for start in starts]


@dataclass(frozen=True)
class HeardWindows:
    """The windows of an evaluation (`AudioClassification.example`) by tensor operations alone, for exported models.

    The clips of a batch have one length, which may be any. An exported program knows the length only when it runs, so
    the length is a tensor here, and clips are cut and padded by computed indices, unlike `windows` and `fit_length`.

    Attributes:
        samples: length of a window.
        count: number of windows.
        pads: put silence around a clip shorter than a window; otherwise after it, and return its length.
    """

    samples: int
    count: int
    pads: bool

    def __call__(self, clips: Tensor) -> Batch:
        """Return windows of clips `[batch, length]`, as `input` `[batch * count, 1, samples]` of unit level.

        With masked padding, the batch has their `length` as well.
        """
        length = torch.ones_like(clips[0], dtype=torch.int64).sum()  # clips.shape[1] would be a constant of the trace
        missing = (self.samples - length).clamp_min(0)
        before = missing // 2 if self.pads else torch.zeros_like(missing)
        place = torch.arange(self.samples, device=clips.device) - before  # negative where silence is first
        starts = self._starts((length - self.samples).clamp_min(0))[:, None]
        found = clips[:, (place + starts).clamp_min(0).minimum(length - 1)]  # [batch, count, samples]
        x = (found * ((place >= 0) & (place < length))).flatten(0, 1)[:, None]
        # The level counts silence around a clip, which `Fit` adds before, but not padding after it.
        used = torch.full_like(length, self.samples) if self.pads else length.clamp_max(self.samples)
        level = (x.square().sum(-1, keepdim=True) / used).sqrt()
        batch: Batch = {"input": x / level.clamp_min(SILENCE)}
        return batch if self.pads else batch | {"length": used.expand(x.shape[0])}

    def _starts(self, excess: Tensor) -> Tensor:
        """Return the starts of the windows, `[count]`, like `windows`."""
        if self.count == 1:
            return (excess // 2)[None]
        steps = torch.arange(self.count, device=excess.device)
        return (excess.double() * steps / (self.count - 1)).round().long()  # float64, like Python's division


def level(waveform: Tensor) -> Tensor:
    """Return the root mean square, a scalar."""
    return waveform.square().mean().sqrt()


def check_waveform(waveform: Tensor, name: str = "waveform") -> None:
    """Raise ValueError for a shape other than `[1, samples]`, or integers."""
    if waveform.ndim != 2 or waveform.shape[0] != 1 or not waveform.is_floating_point():
        shape = f"{list(waveform.shape)} of {waveform.dtype}"
        raise ValueError(f"{name} is {shape}; it should be [1, samples] of a floating point type")


def check_value(right: bool, name: str, value: object, should_be: str) -> None:
    """Raise ValueError with the expected value, unless `right`."""
    if not right:
        raise ValueError(f"{name} is {value!r}; it should be {should_be}")
