"""Damaged files of a data set: find them before the first step, log them, and leave them out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from tqdm import tqdm

from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import write_text

T = TypeVar("T")

RECORD = ".eyetoy-files.json"
NAMED = 10
"""Number of samples named in a message where many are wrong; of each kind, where it has several."""


class UnreadableFileError(ValueError):
    """A file is damaged, or not of the type of its suffix. The message names the file and the reason."""


def refused_sample(given: object, right: str) -> ValueError:
    """Return the error about an object that is no sample, which says what would be one."""
    kind, shape = getattr(given, "dtype", None), getattr(given, "shape", None)
    if hasattr(given, "numpy"):
        found = "a tensor: give its .numpy(), in the layout of NumPy and Pillow"
    elif kind is not None and shape is not None:
        found = f"an array of {kind} {list(shape)}"
    else:
        found = f"a {type(given).__name__}"
    return ValueError(f"a sample must be a file, {right}; got {found}")


def unreadable_files(
    root: Path, files: Sequence[Path], read: Callable[[Path], object], *, reader: str
) -> dict[Path, str]:
    """Read every file once, and return those that cannot be read, each with the reason.

    A record in `root` lists the files that are intact for a reader, so that it reads them again only after a change.

    Args:
        root: the folder of the files.
        files: all of them.
        read: reads a file; raises UnreadableFileError or OSError if it cannot.
        reader: what `read` is, with its options: a file that one decoder reads another may not.
    """
    record = _read_record(root / RECORD)
    known = record.get(reader, {})
    signatures = {path: signature(path) for path in files}
    new = [path for path in files if known.get(_key(root, path)) != signatures[path]]
    reasons = {path: why for path, why in zip(new, why_unreadable(new, read), strict=True) if why is not None}
    if new:
        # Intact files only: the cause of a failure may have been the machine, or a decoder that was not installed.
        intact = {_key(root, path): signatures[path] for path in files if path not in reasons}
        _write_record(root / RECORD, record | {reader: intact})
    return reasons


def why_unreadable(sources: Sequence[T], read: Callable[[T], object]) -> list[str | None]:
    """Read every source once, in several threads, and return for each the reason why it cannot be read, or None."""

    def reason(source: T) -> str | None:
        try:
            read(source)
        except (UnreadableFileError, OSError) as error:  # a dangling link is an OSError
            return str(error)
        return None

    # Threads are enough: decoders release the interpreter's lock, and a network file system waits most of the time.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(reason, sources), "checking files", len(sources), leave=False, disable=None))


def log_skipped(reasons: Sequence[str], total: int) -> None:
    """Log the files that are left out, on the main process."""
    from accelerate import PartialState

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
    """Raise an error about wrong samples, or log on the main process that they are left out.

    Args:
        found: the findings; `str` of one names the sample and its fault. Nothing happens if there are none.
        summary: a line with their number.
        choice: the recipe's choice.
        option: the recipe's key of that choice.
        error: the type of the error.
        hint: a sentence on how to see all of them; findings that are left out are then not named.

    Raises:
        error: there are findings, and the choice is `refuse`.
    """
    if not found:
        return
    from accelerate import PartialState

    named = "\n".join([f"{summary}:", *name_few(found)])
    if choice == "refuse":
        raise error("\n".join(filter(None, [named, hint, f"{option}: skip leaves them out"])))
    if PartialState().is_main_process:
        log(f"left out: {summary if hint else named}")  # the hint tells how to see all of them


def name_few(found: Sequence[object]) -> list[str]:
    """Return a line for each of the first findings of every `kind`, if they have one, and the number of the others."""
    kinds: dict[str, list[object]] = {}
    for one in found:
        kinds.setdefault(getattr(one, "kind", ""), []).append(one)
    lines: list[str] = []
    for kind, members in kinds.items():
        lines += map(str, members[:NAMED])
        if len(members) > NAMED:
            lines.append(f"{kind and f'{kind}: '}and {len(members) - NAMED:,} more")
    return lines


def _key(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()  # lists may name files outside of their folder


def signature(path: Path) -> list[int]:
    """Return a file's size and time of change, to notice a change since it was read; zeros if it is gone."""
    try:
        status = path.stat()
    except OSError:  # a dangling link
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def _read_record(path: Path) -> dict[str, dict[str, list[int]]]:
    """Return the intact files of every reader; of an earlier version, which did not tell readers apart, none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a missing or damaged record costs one more reading of the files, nothing else
    readers = record.items() if isinstance(record, dict) else ()
    return {reader: files for reader, files in readers if isinstance(files, dict)}


def _write_record(path: Path, record: dict[str, dict[str, list[int]]]) -> None:
    try:
        write_text(path, json.dumps(record, indent=0))
    except OSError as error:  # data are often mounted read-only
        log(f"cannot write the list of intact files to {path} ({error}); they will be read again the next time")
