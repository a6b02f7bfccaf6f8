"""Files that are never half written."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it, so that it is never half written."""
    partial = beside(path, "partial")
    partial.write_text(text, encoding="utf-8")
    sync(partial)
    partial.replace(path)


def sync(path: Path) -> None:
    """Write a file, or the entries of a folder, to disk: otherwise a later rename might get there first."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file beside another one, with a further suffix."""
    return path.with_name(f"{path.name}.{suffix}")
