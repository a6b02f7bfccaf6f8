"""What the tables of an MP4 or QuickTime file announce, looked at before FFmpeg takes memory for it.

A table that gives all samples one size needs no entries, and FFmpeg builds an index of as many as it announces: a file
of 1,500 bytes can ask for gigabytes. ISO/IEC 14496-12, sections 4.2 (boxes), 8.7.3 (`stsz`) and 8.8.8 (`trun`).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CONTAINERS = frozenset([b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"udta", b"edts"])
COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes that count samples, and where in their content the count stands."""
_DEEPEST = 16


def excess_of_samples(source: Path | bytes) -> str | None:
    """Say what is wrong if a file announces more samples than it has bytes, or hides what it announces.

    Args:
        source: the file, or what it holds; of any format.

    Returns:
        None if nothing is wrong, as with all that is no MP4 or QuickTime file.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        for name, start, end in _boxes(file, 0, size, 0):
            if name == b"cmov":
                return "its tables are compressed"
            if name in COUNTS and start + COUNTS[name] + 4 <= end:
                file.seek(start + COUNTS[name])
                count = int.from_bytes(file.read(4), "big")
                if count > size:
                    return f"it announces {count:,} samples in {size:,} bytes"
    return None


def _boxes(file: IO[bytes], at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Give the boxes between two places, and those in them: name, and where the content begins and ends."""
    while at + 8 <= end:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        start = at + 8
        if length == 1 and at + 16 <= end:
            length, start = int.from_bytes(file.read(8), "big"), at + 16
        stop = end if length == 0 else min(at + length, end)
        if stop < start:
            return
        yield name, start, stop
        if name in CONTAINERS and depth < _DEEPEST:
            yield from _boxes(file, start, stop, depth + 1)
        at = stop
