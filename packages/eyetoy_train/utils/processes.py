"""Work that one process of a run does for all, and words that it says for all."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

import psutil

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

PATIENCE, SHORT_PATIENCE = 10.0, 2.0
"""Seconds after which a launcher has surely, or usually, ended the other processes of one that failed."""


def on_main_process(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Run `work` on the main process while the others wait; all of them return its value, or raise its error.

    Without the error, the others would go on to the next collective call and wait there for ever.
    """
    from accelerate.utils import broadcast_object_list

    found: list[T | Exception | None] = [None]
    if accelerator.is_main_process:
        try:
            found = [work()]
        except Exception as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], Exception):
        raise found[0]
    return cast("T", found[0])


def is_first_process() -> bool:
    """Whether this is the first process of a launch, or the only one; known before Accelerate starts."""
    return os.environ.get("RANK", "0") == "0"


def let_the_first_speak(*, perhaps_of_another: bool = False) -> None:
    """Wait before an error is printed, on any process of a launch but the first.

    Mostly all of them fail alike. The first one says so and ends, and then the launcher ends the others: they are still
    waiting here, and have printed nothing. A process that fails alone speaks after a while.

    Args:
        perhaps_of_another: the error may be the echo of another process's end, such as a lost connection. The first
            one waits then, too, if it is not alone.
    """
    if not is_first_process():
        time.sleep(PATIENCE)
    elif perhaps_of_another and os.environ.get("WORLD_SIZE", "1") != "1":
        time.sleep(SHORT_PATIENCE)


def this_command() -> str:
    """Return the command line of this program, with that of its launcher, if there is one, in front."""
    own, started_by = sys.orig_argv, psutil.Process(os.getppid()).cmdline()
    # A launcher's ends with the script and its arguments, as does that of `nice` and the like. Not compared with
    # `sys.argv`, whose first word is a program's name for itself.
    script = len(sys.argv)
    return shlex.join(started_by if started_by[-script:] == own[-script:] else own)
