"""One run at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = "run.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a run, which is let go of however the process ends; an empty one is removed.

    Raises:
        FileExistsError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w", encoding="utf-8") as file:
        if not _take(file):
            raise FileExistsError(f"another process is training in {folder}; wait for it, or choose another folder")
        try:
            yield
        finally:
            (folder / LOCK).unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


def is_held(folder: Path) -> bool:
    """Whether a process is training in a folder."""
    path = folder / LOCK
    if not path.exists():
        return False
    with path.open("r+", encoding="utf-8") as file:
        return not _take(file)


def _take(file: IO[str]) -> bool:
    """Lock a file until it is closed; where a system has no such locks, always succeed."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk that knows no locks
        return True
    return True
