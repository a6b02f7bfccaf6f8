"""Damaged files of a set: found before the first step, named, and left out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from accelerate import PartialState
from tqdm import tqdm

from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import write_text

T = TypeVar("T")

RECORD = ".eyetoy-files.json"
NAMED = 10
"""How many samples are named where many are wrong."""


class UnreadableFileError(ValueError):
    """A file that is not what its name promises, or damaged. The message names it and says what is wrong."""


def unreadable_files(root: Path, files: Sequence[Path], read: Callable[[Path], object]) -> dict[Path, str]:
    """Read every file once, and return those that cannot be read with the reason.

    Which ones are whole is kept in `root`, so that they are read again only if they change.

    Args:
        root: the folder of the files.
        files: all of them.
        read: reads a file, and raises UnreadableFileError if it cannot.
    """
    known = _read_record(root / RECORD)
    signatures = {path: signature(path) for path in files}
    new = [path for path in files if known.get(_key(root, path)) != signatures[path]]
    reasons = {path: why for path, why in zip(new, why_unreadable(new, read), strict=True) if why is not None}
    if new:
        # Whole files alone: the cause may have been the machine, or a decoder that was missing.
        _write_record(root / RECORD, {_key(root, path): signatures[path] for path in files if path not in reasons})
    return reasons


def why_unreadable(sources: Sequence[T], read: Callable[[T], object]) -> list[str | None]:
    """Read everything once, in several threads, and return for each why it cannot be read, or None."""

    def reason(source: T) -> str | None:
        try:
            read(source)
        except (UnreadableFileError, OSError) as error:  # a link to nothing is an OSError
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(reason, sources), "checking files", len(sources), leave=False, disable=None))


def log_skipped(reasons: Sequence[str], total: int) -> None:
    """Name what is left out, on the main process."""
    if reasons and PartialState().is_main_process:
        log("\n".join([f"skipped {len(reasons)} of {total} files, which cannot be read:", *reasons]))


def refuse_or_skip(
    found: Sequence[object],
    summary: str,
    choice: Literal["refuse", "skip"],
    option: str,
    *,
    error: type[Exception] = ValueError,
    hint: str = "",
) -> None:
    """Stop because something is wrong with samples, or say on the main process that they are left out.

    Args:
        found: the samples and what is wrong with them; as text, they name it. Nothing happens if there are none.
        summary: counts them.
        choice: the recipe's.
        option: the recipe's key of that choice.
        error: raised to refuse.
        hint: how to see all of them, a sentence; they are then not named where they are left out.

    Raises:
        error: something was found, and the recipe says to refuse it.
    """
    if not found:
        return
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    named = "\n".join([f"{summary}:", *map(str, found[:NAMED]), *more])
    if choice == "refuse":
        raise error("\n".join(filter(None, [named, hint, f"{option}: skip leaves them out"])))
    if PartialState().is_main_process:
        log(f"left out: {summary if hint else named}")  # the hint tells how to see all of them


def _key(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()  # lists may name files outside of their folder


def signature(path: Path) -> list[int]:
    """Return size and time of change, which tell whether a file is still the one that was read; zeros if it is gone."""
    try:
        status = path.stat()
    except OSError:  # a link to nothing
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def _read_record(path: Path) -> dict[str, list[int]]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(path: Path, record: dict[str, list[int]]) -> None:
    try:
        write_text(path, json.dumps(record, indent=0))
    except OSError as error:
        log(f"cannot keep in {path} which files are whole ({error}); they will be read again the next time")
