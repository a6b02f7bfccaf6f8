"""Files that are never half written, and files that systems and programs leave among data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

CLUTTER = ("__macosx", "@eadir", "thumbs.db", "desktop.ini")
"""Names of macOS's archives, Synology's thumbnails and Windows, in lower case."""


def is_clutter(name: str) -> bool:
    """Whether a file or folder is left by a system or a program, and is no data.

    So are names that begin with a dot: Jupyter keeps copies in `.ipynb_checkpoints`, and macOS writes `._a.png` beside
    `a.png`, with the same suffix but no picture in it.
    """
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in CLUTTER


def list_files(folder: Path, extensions: Collection[str]) -> tuple[list[Path], Counter[str]]:
    """List the files below a folder that have one of the extensions and are not clutter, sorted.

    Returns:
        the files, and the numbers of those left out, by the reason.
    """
    depth = len(folder.parts)  # a hidden folder above the data is the user's choice
    kept: list[Path] = []
    left_out: Counter[str] = Counter()
    # Sorted: the order of a folder's entries differs between file systems, and held-out files are drawn by it.
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            if path.is_symlink():  # which rglob does not follow: a link to a folder above would never end
                left_out["linked folders"] += 1
        elif any(map(is_clutter, path.parts[depth:])):
            left_out["hidden or system files"] += 1
        elif path.suffix.lower() not in extensions:
            left_out["files of other types"] += 1
        else:
            kept.append(path)
    return kept, left_out


def list_folders(folder: Path) -> list[Path]:
    """List the folders in a folder that are not clutter, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_clutter(path.name))


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it, so that it is never half written."""
    partial = beside(path, "partial")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
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
