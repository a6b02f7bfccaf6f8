"""A run that is told to go: SIGTERM, as a node that is taken away sends it."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.synchronize import Event
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import distributed

EXIT_CODE = 128 + signal.SIGTERM
"""What a shell reports of a program that SIGTERM ended."""


def worker_setup() -> Callable[[int], None]:
    """Return what a data loader has its workers do first, for `worker_init_fn`.

    They ignore SIGTERM, which Slurm sends to every process, because the run needs their batches until it has saved; but
    not when the program ends, which is how Python ends what it has started.
    """
    return partial(_set_up_worker, _program_ends())


@cache
def _program_ends() -> Event:
    event = multiprocessing.Event()
    atexit.register(event.set)  # runs before multiprocessing's own, which was registered first
    return event


def _set_up_worker(program_ends: Event, worker: int) -> None:
    def leave(number: int, frame: FrameType | None) -> None:
        if program_ends.is_set():
            os._exit(EXIT_CODE)

    signal.signal(signal.SIGTERM, leave)


class Preempted(SystemExit):
    """The run was told to stop, has saved, and can go on. Ends a program with code 143."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_CODE)
        self.message = message


class StopRequested(BaseException):
    """SIGTERM was received, by this process or another one of the run."""


class StopSignal:
    """Notes SIGTERM, while it is entered, instead of dying of it; processes agree on when to stop.

    Each check asks the others without waiting for them, and reads what the last one asked.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.num_processes = accelerator.num_processes
        self.received = False
        self._asked: tuple[Any, torch.Tensor] | None = None
        # On CPU memory, so that to ask the others does not wait for a GPU.
        self._group: Any = distributed.new_group(backend="gloo") if self.num_processes > 1 else None

    def check(self) -> None:
        """Raise `StopRequested` if it is time to stop. All processes must call this equally often."""
        stop = self.received if self._group is None else self._answer()
        if stop:
            raise StopRequested
        if self._group is not None:
            flag = torch.tensor(int(self.received))
            work = distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=self._group, async_op=True)
            self._asked = work, flag

    def _answer(self) -> bool:
        """Return whether any process had received the signal when it last asked."""
        if self._asked is None:
            return False
        work, flag = self._asked
        work.wait()
        self._asked = None
        return bool(flag)

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
