"""Files that are never half written, and files that systems and programs leave among data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Container, Mapping
from pathlib import Path

CLUTTER = ("__macosx", "@eadir", "thumbs.db", "desktop.ini")
"""Names of macOS's archives, Synology's thumbnails and Windows, in lower case."""
CLUTTER_REASONS = ("hidden or system files", "hidden or system folders")
"""Why clutter is left out: a file, or a folder, which counts once with all that is in it."""


def is_clutter(name: str) -> bool:
    """Whether a file or folder is left by a system or a program, and is no data.

    So are names that begin with a dot: Jupyter keeps copies in `.ipynb_checkpoints`, and macOS writes `._a.png` beside
    `a.png`, with the same suffix but no picture in it.
    """
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in CLUTTER


def may_be_file(path: Path) -> bool:
    """Whether a path is a file, or a broken link: not a folder, nor a pipe, whose reading would never end."""
    return path.is_file() or not path.exists()


def list_files(folder: Path, extensions: Collection[str]) -> tuple[list[Path], Counter[str]]:
    """List the files below a folder that have one of the extensions and are not clutter, sorted.

    A link to a file is a file, also a broken one, which then stops a run by its name. A link to a folder is not
    followed: it may lead to a folder above it.

    Returns:
        the files, and the numbers of those left out, by the reason; a folder that is not looked into counts once.

    Raises:
        OSError: a folder cannot be read.
    """
    kept: list[Path] = []
    left_out: Counter[str] = Counter()
    folders = [folder]
    while folders:
        # Not `Path.rglob`, which passes over folders that it must not read without a word.
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                is_folder = path.is_dir() if entry.is_symlink() else entry.is_dir()
                if is_clutter(entry.name):
                    left_out[CLUTTER_REASONS[is_folder]] += 1
                elif is_folder and entry.is_symlink():
                    left_out["linked folders"] += 1
                elif is_folder:
                    folders.append(path)
                elif path.suffix.lower() not in extensions:
                    left_out["files of other types"] += 1
                elif not entry.is_file(follow_symlinks=False) and not may_be_file(path):
                    left_out["pipes and devices"] += 1
                else:
                    kept.append(path)
    # Sorted: the order of a folder's entries differs between file systems, and held-out files are drawn by it.
    return sorted(kept), left_out


def count_beside(folder: Path, reason: str, known: Container[Path] = ()) -> Counter[str]:
    """Count what is left out of a folder of folders: clutter, and by `reason` files other than the known ones."""
    left_out: Counter[str] = Counter()
    for path in folder.iterdir():
        is_folder = path.is_dir()
        if is_clutter(path.name):
            left_out[CLUTTER_REASONS[is_folder]] += 1
        elif not is_folder and path not in known:
            left_out[reason] += 1
    return left_out


def reasons(left_out: Mapping[str, int]) -> str:
    """Return the numbers of what is left out, by the reason, in a line."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()) if count)


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
