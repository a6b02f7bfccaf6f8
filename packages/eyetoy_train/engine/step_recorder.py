"""Loss and gradient norm of every step: whether they are finite, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from eyetoy_train.checkpoint.train_state import TrainState


@dataclass(frozen=True)
class StepSummary:
    """The steps since the last summary: mean loss, largest gradient norm, and the number of the last step."""

    step: int
    loss: float
    grad_norm: float
    parts: Mapping[str, float] = field(default_factory=dict)
    """Means of the parts of the loss, if the task tells them."""


class NotFiniteError(FloatingPointError):
    """A loss or a gradient is not finite.

    Args:
        step: optimizer step, counted from 0.
        message: which of the two, and its value.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


class StepRecorder:
    """Collects losses and norms on the device and adds them to the statistics of the current epoch.

    To read a number from a GPU waits for everything queued before it. So the numbers of several steps stay there, and
    `flush` reads them all at once.

    Args:
        accelerator: its processes see the same steps.
        state: `state.stats` takes the numbers.
    """

    def __init__(self, accelerator: Accelerator, state: TrainState) -> None:
        self.accelerator = accelerator
        self.state = state
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._parts: list[Mapping[str, Tensor]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, loss: Tensor, norm: Tensor, parts: Mapping[str, Tensor] | None = None) -> None:
        """Note a step: the mean loss of this process, the norm of the gradient, and parts of the loss. All scalars."""
        self._steps.append(step)
        self._losses.append(loss)
        self._norms.append(norm)
        self._parts.append(parts or {})

    def flush(self) -> StepSummary | None:
        """Read the collected steps, averaged over all processes; return None if there are none.

        Raises:
            NotFiniteError: a loss is not finite, or a gradient where no gradient scaler looks after them.
        """
        if not self._steps:
            return None
        device, names = self.accelerator.device, list(self._parts[0])
        others = [torch.stack([parts[name] for parts in self._parts]).float() for name in names]
        rows = [torch.stack(self._losses), torch.stack(self._norms).float(), *others]
        values = torch.stack([row.to(device) for row in rows])
        if self.accelerator.num_processes > 1:
            values = cast("Tensor", self.accelerator.reduce(values, reduction="mean"))
        losses, norms, *parts = values.tolist()
        steps = self._steps
        self._steps, self._losses, self._norms, self._parts = [], [], [], []
        for step, loss, norm, *step_parts in zip(steps, losses, norms, *parts, strict=True):
            if not math.isfinite(loss):
                raise NotFiniteError(step, f"the loss is {loss}")
            # In fp16 the scaler skips a step whose gradients overflow, and tries a smaller scale: no reason to stop.
            if not math.isfinite(norm) and self.accelerator.scaler is None:
                raise NotFiniteError(step, f"the gradient's norm is {norm}, at a loss of {loss:.4g},")
            named = dict(zip(names, step_parts, strict=True))
            self.state.stats.add(loss, norm if math.isfinite(norm) else 0.0, named)
        means = {name: math.fsum(part) / len(part) for name, part in zip(names, parts, strict=True)}
        return StepSummary(steps[-1], math.fsum(losses) / len(losses), max(norms), means)
