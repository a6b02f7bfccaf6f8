"""SIGTERM, which a node sends to its processes before it is taken away, and Ctrl-C: the run saves and ends.

The way of the signal: the handler of `StopSignal` notes it. Between two steps, or two batches of an evaluation,
`StopSignal.check` finds the note, agrees with the other processes, and raises `StopRequested`. `Trainer.fit` writes a
checkpoint and raises `Preempted`, which ends the program with code 143, or 130 after Ctrl-C. The same command then
resumes the run. A second Ctrl-C ends it at once.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.synchronize import Event
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import distributed

from eyetoy_train.utils.processes import is_first_process

EXIT_CODE = 128 + signal.SIGTERM
"""The exit code that a shell reports for a program ended by SIGTERM."""
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
"""The signals after which a run saves, as a user knows them."""
ECHO = 1.0
"""Seconds in which a second SIGINT is that of the launcher, which passes on the Ctrl-C that all processes received."""
NOTICE = b"\nCtrl-C: the run is saved after this step; press it again to end at once\n"


def worker_setup() -> Callable[[int], None]:
    """Return the `worker_init_fn` of a data loader, which makes its workers ignore signals while the run goes on.

    Slurm sends SIGTERM to every process, a terminal SIGINT, and the run needs batches until it has saved. When the
    program ends, workers must obey SIGTERM: it is how Python ends the processes that it has started.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Preempted(SystemExit):
    """The run received SIGTERM or Ctrl-C and was saved; the same command resumes it.

    Ends a program with code 143 or 130.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM) -> None:
        super().__init__(128 + number)
        self.message = message


class StopRequested(BaseException):
    """This process or another one of the run received a signal. No `Exception`, so that no task catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(NAMES[signal.Signals(number)])
        self.number = number


class StopSignal:
    """Notes SIGTERM and Ctrl-C in a `with` block instead of dying of them; lets processes agree on when to stop.

    The signal may reach one process only, or all at different steps, but a checkpoint takes all of them after the same
    step. To ask the others and wait for the answer would cost time in every step. So each check starts to ask and reads
    the answer to the check before: with several processes a run stops one step later.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.num_processes = accelerator.num_processes
        self.received = 0
        """The number of the signal, or 0."""
        self._since = 0.0
        self._asked: tuple[Any, torch.Tensor] | None = None
        # A group of its own over CPU memory: a collective on the GPU would queue behind the step's kernels.
        self._group: Any = distributed.new_group(backend="gloo") if self.num_processes > 1 else None

    def check(self) -> None:
        """Raise `StopRequested` if it is time to stop. All processes must call this equally often."""
        number = self.received if self._group is None else self._answer()
        if number:
            raise StopRequested(number)
        if self._group is not None:
            flag = torch.tensor(self.received)
            work = distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=self._group, async_op=True)
            self._asked = work, flag

    def _answer(self) -> int:
        """Return the signal that any process had received when it last asked, or 0."""
        if self._asked is None:
            return 0
        work, flag = self._asked
        work.wait()
        self._asked = None
        return int(flag)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {number: signal.signal(number, self._note) for number in NAMES}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Little is done here: the signal may come in the middle of anything, such as a print.
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
            if number == signal.SIGINT and is_first_process():
                os.write(2, NOTICE)
        elif number == signal.SIGINT and now - self._since > ECHO:
            os._exit(128 + number)
        if number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            # No launcher repeats the signal. Left to the system, the next one ends the program in any computation.
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                signal.signal(number, before)
