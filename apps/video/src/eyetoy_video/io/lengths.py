"""Record the lengths of intact video files from one check to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from eyetoy_train.data.unreadable import signature
from eyetoy_train.utils.console import log


class Length(NamedTuple):
    """Length of a video."""

    num_frames: int
    seconds: float


class Record:
    """A file with the lengths of intact videos, kept from one check to the next.

    A file that has changed is checked again, and so is a broken one: the cause may have been the machine.

    Args:
        path: path of the record.
        every_frame: use only records of checks that decoded every frame.
    """

    def __init__(self, path: Path, *, every_frame: bool) -> None:
        self.path = path
        self.every_frame = every_frame
        self.known = dict(self._lines())

    def get(self, path: Path) -> Length | None:
        """Return the length of an intact file, or None if it must be checked."""
        return self.known.get(_signature(path))

    @contextmanager
    def writing(self) -> Iterator[TextIO | None]:
        """Open the record to add lines to it; yield None, and log the reason, if it cannot be written."""
        try:
            file = self.path.open("a", encoding="utf-8", buffering=1)  # line by line: a killed check keeps its work
        except OSError as error:
            log(f"cannot write the list of intact files to {self.path} ({error}); the next check will start again")
            yield None
            return
        with file:
            yield file

    def line(self, path: Path, length: Length) -> str:
        """Return the line of the record for an intact file."""
        return json.dumps([*_signature(path), *length, self.every_frame]) + "\n"

    def _lines(self) -> Iterator[tuple[tuple[str, int, int], Length]]:
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                name, size, time, num_frames, seconds, every_frame = json.loads(line)
            except ValueError:  # the last line of a check that was killed
                continue
            # A thorough check is good enough for a quick one, but not the other way round.
            if every_frame or not self.every_frame:
                yield (name, size, time), Length(num_frames, seconds)


def _signature(path: Path) -> tuple[str, int, int]:
    size, time = signature(path)
    return str(path.absolute()), size, time
