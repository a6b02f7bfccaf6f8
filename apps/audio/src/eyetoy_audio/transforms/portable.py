"""A clip of any length to what a model hears of it, by tensor operations that can be exported."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eyetoy_audio.transforms.noise import SILENCE
from eyetoy_train import Batch


@dataclass(frozen=True)
class HeardWindows:
    """What `AudioClassification.example` does in an evaluation, for a batch of clips of one length at a time.

    That length may be any, and is known to a traced program only when it runs: so it is a tensor here, and places are
    computed, where `windows` and `fit_length` cut and pad.

    Args:
        samples: length of a window.
        count: how many windows.
        pads: put silence around a clip that is shorter than a window; or after it, and say where it ends.
    """

    samples: int
    count: int
    pads: bool

    def __call__(self, clips: Tensor) -> Batch:
        """Return windows `[batch * count, 1, samples]` of unit level as `input`, of `[batch, length]`.

        Where padding is left out, their `length` comes with them.
        """
        length = torch.ones_like(clips[0], dtype=torch.int64).sum()
        missing = (self.samples - length).clamp_min(0)
        before = missing // 2 if self.pads else torch.zeros_like(missing)
        place = torch.arange(self.samples, device=clips.device) - before
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
        return (excess.double() * steps / (self.count - 1)).round().long()
