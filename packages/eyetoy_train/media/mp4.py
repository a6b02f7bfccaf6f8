"""How many samples the tables of an MP4 or QuickTime file announce, checked before FFmpeg allocates memory for them.

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
"""Boxes that hold other boxes and nothing else, on the way to those that count samples."""
COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes that count samples, and the offset of the count in their content."""
# A real file nests its tables six deep (moov, trak, mdia, minf, stbl, stsz). A made-up one could nest thousands of
# empty boxes, and the recursion would end in a RecursionError.
_DEEPEST = 16


def excess_of_samples(source: Path | bytes) -> str | None:
    """Say what is wrong if a file announces more samples than it has bytes, or hides how many it announces.

    Args:
        source: the file, or its content; of any format.

    Returns:
        None if nothing is wrong, which includes every file that is not MP4 or QuickTime.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        # Other formats need no test of their own: what their bytes say, taken for boxes, has none of the names below.
        for name, start, end in _boxes(file, 0, size, 0):
            # QuickTime may compress its tables into one `cmov`. FFmpeg unpacks it; the counts in it are unknown here.
            if name == b"cmov":
                return "its tables are compressed"
            if name in COUNTS and start + COUNTS[name] + 4 <= end:
                file.seek(start + COUNTS[name])
                count = int.from_bytes(file.read(4), "big")
                # No sample takes less than a byte, so this refuses no true file.
                if count > size:
                    return f"it announces {count:,} samples in {size:,} bytes"
    return None


def _boxes(file: IO[bytes], at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of every box between two offsets, and of those in it, with the bounds of its content."""
    while at + 8 <= end:
        # Each call seeks by itself, because whoever takes the box moves the file in between.
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))  # the length counts these 8 bytes, too
        start = at + 8
        if length == 1 and at + 16 <= end:  # 1: the true length follows, in 8 bytes
            length, start = int.from_bytes(file.read(8), "big"), at + 16
        stop = end if length == 0 else min(at + length, end)  # 0: up to the end of the file
        # A box shorter than its own head is no box. To go on from its end would be to stand still or go back.
        if stop < start:
            return
        yield name, start, stop
        if name in CONTAINERS and depth < _DEEPEST:
            yield from _boxes(file, start, stop, depth + 1)
        at = stop
