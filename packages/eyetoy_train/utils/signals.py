"""SIGTERM, which a node sends to its processes before it is taken away: the run saves and ends.

The way of the signal: the handler of `StopSignal` notes it. Between two steps, or two batches of an evaluation,
`StopSignal.check` finds the note, agrees with the other processes, and raises `StopRequested`. `Trainer.fit` writes a
checkpoint and raises `Preempted`, which ends the program with code 143. The same command then resumes the run.
"""

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
"""The exit code that a shell reports for a program ended by SIGTERM."""


def worker_setup() -> Callable[[int], None]:
    """Return the `worker_init_fn` of a data loader, which makes its workers ignore SIGTERM while the run goes on.

    Slurm sends SIGTERM to every process, and the run needs batches until it has saved. When the program ends, workers
    must obey it: it is how Python ends the processes that it has started.
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
    """The run received SIGTERM and was saved; the same command resumes it. Ends a program with code 143."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_CODE)
        self.message = message


class StopRequested(BaseException):
    """This process or another one of the run received SIGTERM. No `Exception`, so that no task catches it."""


class StopSignal:
    """Notes SIGTERM in a `with` block instead of dying of it, and lets the processes agree on when to stop.

    The signal may reach one process only, or all at different steps, but a checkpoint takes all of them after the same
    step. To ask the others and wait for the answer would cost time in every step. So each check starts to ask and reads
    the answer to the check before: with several processes a run stops one step later.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.num_processes = accelerator.num_processes
        self.received = False
        self._asked: tuple[Any, torch.Tensor] | None = None
        # A group of its own over CPU memory: a collective on the GPU would queue behind the step's kernels.
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
        self.received = True  # and nothing else: the signal may come in the middle of anything

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)
