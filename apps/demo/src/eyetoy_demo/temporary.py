"""The files that the page writes, in one folder that goes when the program ends, unless a signal kills it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock

KEPT_SECONDS = 3600
"""Age at which clips, uploads and images are deleted."""
_LOCK = Lock()


def folder_to_keep() -> Path:
    """Return a new folder for a file that stays as long as the program runs."""
    return Path(tempfile.mkdtemp(dir=_part("kept")))


def folder_for_a_clip() -> Path:
    """Return a new folder for a clip, and delete the clips that are older than `KEPT_SECONDS`."""
    clips = _part("clips")
    with _LOCK:  # or two requests at once would both delete the same clip
        for old in clips.iterdir():
            with suppress(FileNotFoundError):  # a machine may clear its temporary files
                if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=clips))


def _part(name: str) -> Path:
    with _LOCK:  # or two requests at the start would each make a folder
        folder = _root() / name
    # Every time: a machine may clear its temporary files while the page is up.
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="eyetoy-demo-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
