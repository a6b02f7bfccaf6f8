"""Work that one process of a run does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def on_main_process(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Run `work` on the main process while the others wait; all of them return its value, or raise its error.

    Without the error, the others would go on to the next collective call and wait there for ever.
    """
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
