"""Loss and gradient norm of every step: whether they are finite, and how calm the training is."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

WINDOW = 100
"""Steps that a loss is compared with."""
FEWEST = 20
SPIKE = 6.0
"""A loss is a spike if it lies more than this many standard deviations above the mean of the steps before it."""


@dataclass(frozen=True)
class StepSummary:
    """What happened since the last one: means of the loss, largest gradient norm, and the last step."""

    step: int
    loss: float
    grad_norm: float


class NotFiniteError(FloatingPointError):
    """A loss or a gradient is not finite; knows the step, counted from 0."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(what)
        self.step = step
        self.what = what


@dataclass
class EpochRecord:
    """What an epoch's steps add up to."""

    losses: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    norm_max: float = 0.0
    spikes: int = 0
    seconds: float = 0.0
    """Time that the steps took, the wait for data included."""
    seconds_waited: float = 0.0
    """Time that they waited for data."""
    window: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Losses of the steps before, of earlier epochs too."""

    def add(self, loss: float, norm: float) -> None:
        """Add a step."""
        if len(self.window) >= FEWEST:
            mean = math.fsum(self.window) / len(self.window)
            deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in self.window) / len(self.window))
            self.spikes += loss > mean + SPIKE * deviation
        self.window.append(loss)
        self.losses += 1
        self.loss_sum += loss
        self.norm_sum += norm
        self.norm_max = max(self.norm_max, norm)

    def scores(self) -> dict[str, float]:
        """Return the values that a line of metrics.jsonl holds."""
        count = max(self.losses, 1)
        return {
            "train_loss": self.loss_sum / count,
            "grad_norm": self.norm_sum / count,
            "grad_norm_max": self.norm_max,
            "loss_spikes": self.spikes,
        }

    def next_epoch(self) -> EpochRecord:
        """Return a new record that goes on from this one's window."""
        return EpochRecord(window=self.window)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON knows it."""
        return dataclasses.asdict(self) | {"window": list(self.window)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EpochRecord:
        """Undo `to_json`."""
        return cls(**values | {"window": deque(values["window"], maxlen=WINDOW)})


class StepRecorder:
    """Collects losses and norms on the device, and reads them all at once, so that a GPU need not wait every step."""

    def __init__(self, accelerator: Accelerator, epoch: EpochRecord) -> None:
        self.accelerator = accelerator
        self.epoch = epoch
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Take what a step gave: this process's mean loss, and the norm of the gradient."""
        self._steps.append(step)
        self._losses.append(loss)
        self._norms.append(norm)

    def flush(self) -> StepSummary | None:
        """Read what was collected, over all processes, and return its summary; None if there is nothing.

        Raises:
            NotFiniteError: a loss is not finite, or, unless a gradient scaler looks after them, a gradient.
        """
        if not self._steps:
            return None
        device = self.accelerator.device
        values = torch.stack([torch.stack(self._losses).to(device), torch.stack(self._norms).float().to(device)])
        if self.accelerator.num_processes > 1:
            values = cast("Tensor", self.accelerator.reduce(values, reduction="mean"))
        losses, norms = values.tolist()
        steps = self._steps
        self._steps, self._losses, self._norms = [], [], []
        for step, loss, norm in zip(steps, losses, norms, strict=True):
            if not math.isfinite(loss):
                raise NotFiniteError(step, f"the loss is {loss}")
            if not math.isfinite(norm) and self.accelerator.scaler is None:
                raise NotFiniteError(step, f"the gradient's norm is {norm}, at a loss of {loss:.4g},")
            self.epoch.add(loss, norm if math.isfinite(norm) else 0.0)
        return StepSummary(steps[-1], math.fsum(losses) / len(losses), max(norms))
