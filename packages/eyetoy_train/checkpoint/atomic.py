"""Folders that are complete or absent: written under another name, synced, renamed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from eyetoy_train.types import CheckpointError
from eyetoy_train.utils.files import beside, sync
from eyetoy_train.utils.untrusted import read_json

MANIFEST = "manifest.json"
"""Lists the other files of a folder with size and digest. Written last, so a folder that has one is complete."""


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder, then replace `folder` by it.

    Whenever this is interrupted, `folder` or its backup (see `recover_folder`) is complete.

    Args:
        folder: what to write or replace.
        write: takes the path of an empty folder and fills it.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written for another reason.
    """
    partial, backup = beside(folder, "partial"), beside(folder, "backup")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        _write_manifest(partial)
        # Two renames, because no system call swaps folders on every system. A kill before the first leaves the old
        # folder and a partial one; a kill between them leaves a backup and a complete partial one, and `recover_folder`
        # takes the backup; a kill after the second leaves the new folder, and a backup that is removed later.
        shutil.rmtree(backup, ignore_errors=True)
        if folder.exists():
            folder.rename(backup)
        partial.rename(folder)
        sync(folder.parent)
        shutil.rmtree(backup, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        recover_folder(folder)
        free = shutil.disk_usage(_existing(folder)).free / 1e6
        raise CheckpointError(f"could not write {folder}: {error} ({free:,.0f} MB are free there)") from error


def recover_folder(folder: Path) -> None:
    """Restore the backup that an interrupted `write_folder` may have left instead of `folder`."""
    backup = beside(folder, "backup")
    if not folder.exists() and backup.exists():
        backup.rename(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder. If this is interrupted, what is left does not pass for a complete one."""
    # Renamed first: the files are removed one by one, and the manifest need not be the first of them.
    partial = beside(folder, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    folder.rename(partial)
    shutil.rmtree(partial, ignore_errors=True)


def is_complete(folder: Path) -> bool:
    """Whether a folder was written to its end."""
    return (folder / MANIFEST).is_file()


def check_folder(folder: Path) -> None:
    """Compare the files of a folder with its manifest, if it has one.

    Raises:
        CheckpointError: a file is missing, cut short or changed; the message names it.
    """
    if not is_complete(folder):
        return
    try:
        files = read_json(folder / MANIFEST)
        for name, (size, digest) in files.items():
            path = folder / name
            if not path.is_file():
                raise CheckpointError(f"{folder} is damaged: {name} is missing")
            if path.stat().st_size != size:
                raise CheckpointError(f"{folder} is damaged: {name} has {path.stat().st_size:,} bytes of {size:,}")
            if _digest(path) != digest:
                raise CheckpointError(f"{folder} is damaged: the content of {name} has changed since it was written")
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder} is damaged: {MANIFEST} cannot be read: {error}") from error


def _write_manifest(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        sync(path)
    files = {path.relative_to(folder).as_posix(): (path.stat().st_size, _digest(path)) for path in paths}
    (folder / MANIFEST).write_text(json.dumps(files, indent=1), encoding="utf-8")
    sync(folder / MANIFEST)
    sync(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
