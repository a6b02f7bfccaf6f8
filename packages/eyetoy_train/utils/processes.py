"""What the processes of a run do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def on_main_process(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Let the main process work while the others wait, and give all of them what it returns; or what it raises."""
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
