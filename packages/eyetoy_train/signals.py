"""A run that is told to go: SIGTERM, as a node that is taken away sends it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import distributed

EXIT_CODE = 128 + signal.SIGTERM
"""What a shell reports of a program that SIGTERM ended."""
CHECKS_BETWEEN_AGREEMENTS = 10


class Preempted(SystemExit):
    """The run was told to stop, has saved, and can go on. Ends a program with code 143."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_CODE)
        self.message = message


class StopRequested(BaseException):
    """SIGTERM was received, by this process or another one of the run."""


class StopSignal:
    """Notes SIGTERM, while it is entered, instead of dying of it; processes agree on when to stop."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.num_processes = accelerator.num_processes
        self.received = False
        self._checks = 0
        # On CPU memory, so that to ask the others does not wait for a GPU.
        self._group: Any = distributed.new_group(backend="gloo") if self.num_processes > 1 else None

    def check(self) -> None:
        """Raise `StopRequested` if it is time to stop. All processes must call this equally often."""
        self._checks += 1
        received = self.received
        if self._group is not None:
            if self._checks % CHECKS_BETWEEN_AGREEMENTS:
                return
            flag = torch.tensor(int(received))
            distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=self._group)
            received = bool(flag)
        if received:
            raise StopRequested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)
