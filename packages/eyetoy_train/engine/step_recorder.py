"""Loss and gradient norm of every step: whether they are finite, and what they add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass
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

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Note a step: the mean loss of this process, and the norm of the gradient. Both are scalars."""
        self._steps.append(step)
        self._losses.append(loss)
        self._norms.append(norm)

    def flush(self) -> StepSummary | None:
        """Read the collected steps, averaged over all processes; return None if there are none.

        Raises:
            NotFiniteError: a loss is not finite, or a gradient where no gradient scaler looks after them.
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
            # In fp16 the scaler skips a step whose gradients overflow, and tries a smaller scale: no reason to stop.
            if not math.isfinite(norm) and self.accelerator.scaler is None:
                raise NotFiniteError(step, f"the gradient's norm is {norm}, at a loss of {loss:.4g},")
            self.state.stats.add(loss, norm if math.isfinite(norm) else 0.0)
        return StepSummary(steps[-1], math.fsum(losses) / len(losses), max(norms))
