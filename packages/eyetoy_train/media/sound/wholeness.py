"""Whether a sound file is whole, as far as its own headers tell; decoders read what is left without a word."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from eyetoy_train.media.sound.decoders import Decoded
from eyetoy_train.media.sound.errors import ALL_OF_IT, NotSoundError
from eyetoy_train.media.sound.kinds import Kind

# A program that writes into a pipe does not know the length, and announces one near the largest there is.
UNKNOWN_BYTES = 0x7FFF_0000
# Where a header's count of samples is rounded to frames, it is one to within a few of MP3, which have 1152 each.
LENGTH_TOLERANCE = 4 * 1152
# For other kinds libraries guess the length.
_COUNTED: tuple[Kind, ...] = ("wav", "flac", "aiff", "caf", "w64")


@dataclass(frozen=True)
class _Chunks:
    """How a kind of file is made of chunks, each a head with name and size, then content; one holds the samples."""

    start: int
    """Where the first chunk begins."""
    head: struct.Struct
    """Name and size, in this order or the other."""
    samples: bytes
    """How the name of the chunk with the samples begins."""
    counts_head: bool = False
    """Whether the size is that of head and content."""
    align: int = 1
    """Chunks begin at multiples of it."""


_CHUNKS: dict[Kind, _Chunks] = {
    "wav": _Chunks(12, struct.Struct("<4sI"), b"data", align=2),
    "aiff": _Chunks(12, struct.Struct(">4sI"), b"SSND", align=2),
    "caf": _Chunks(8, struct.Struct(">4sQ"), b"data"),
    "w64": _Chunks(40, struct.Struct("<16sQ"), b"data", counts_head=True, align=8),
    "m4a": _Chunks(0, struct.Struct(">I4s"), b"mdat", counts_head=True),
    "wma": _Chunks(0, struct.Struct("<16sQ"), b"6&\xb2u\x8ef\xcf\x11", counts_head=True),
}

_PAGE_HEAD = 27  # bytes of an Ogg page before the sizes of its segments; the last one counts these
_PAGE_SUM = slice(22, 26)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_whole(content: bytes, kind: Kind) -> None:
    """Raise NotSoundError if the content was cut short, or a page of Ogg is damaged, where its kind lets that be seen.

    A missing byte is seen in wav, aiff, caf, w64, m4a and wma; in ogg and opus too, but not missing pages at the end.
    """
    if kind in ("ogg", "opus"):
        _check_pages(content)
    elif kind in _CHUNKS:
        _check_chunks(content, _CHUNKS[kind])


def check_length(decoded: Decoded, content: bytes, kind: Kind) -> None:
    """Raise NotSoundError if fewer samples were decoded than the header counts, in mp3, wav, flac, aiff, caf or w64."""
    counted = _counted_by_mp3(content) if kind == "mp3" else decoded.announced if kind in _COUNTED else None
    held = decoded.samples.shape[1]
    if counted is not None and held < counted - LENGTH_TOLERANCE:
        raise NotSoundError(f"it is cut short: it announces {counted} samples and holds {held}", ALL_OF_IT)


def _counted_by_mp3(content: bytes) -> int | None:
    # The first frame may be a table that counts the frames after it.
    start = 10 + _id3_size(content) if content.startswith(b"ID3") else 0
    first_frame = content[start : start + 200]
    table = max(first_frame.find(name) for name in (b"Xing", b"Info"))
    if table < 0 or len(first_frame) < table + 12:
        return None
    flags, frames = struct.unpack_from(">II", first_frame, table + 4)
    is_mpeg1 = first_frame[1] & 0b1000
    return frames * (1152 if is_mpeg1 else 576) if flags & 1 else None


def _id3_size(content: bytes) -> int:
    return sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=False))


def _check_chunks(content: bytes, chunks: _Chunks) -> None:
    at = chunks.start
    while at + chunks.head.size <= len(content):
        name, size = sorted(chunks.head.unpack_from(content, at), key=lambda field: isinstance(field, int))
        size -= chunks.head.size if chunks.counts_head else 0
        if size < 0:
            return
        at += chunks.head.size
        if name.startswith(chunks.samples):
            _check_held(len(content) - at, size)
            return
        at += size + -(at + size) % chunks.align


def _check_held(held: int, announced: int) -> None:
    if held < announced < UNKNOWN_BYTES:
        raise NotSoundError(f"it is cut short: it announces {announced} bytes of samples and holds {held}", ALL_OF_IT)


def _check_pages(content: bytes) -> None:
    at = 0
    while content.startswith(b"OggS", at):
        start = at + _PAGE_HEAD
        segments = content[start : start + sum(content[start - 1 : start])]
        end = start + len(segments) + sum(segments)
        if end > len(content):
            raise NotSoundError(f"it is cut short: it ends in its page at byte {at}", ALL_OF_IT)
        if not _is_intact(content[at:end]):
            raise NotSoundError(f"it is damaged: its page at byte {at} has not its checksum", "it should be whole")
        at = end
    if content.find(b"OggS", at) >= 0:
        raise NotSoundError(f"it is damaged: there is no page at byte {at}", "it should be whole")


def _is_intact(page: bytes) -> bool:
    # Ogg's sum is that of zlib with the bits of every byte and of the sum in reversed order, and nothing inverted.
    without_sum = page[: _PAGE_SUM.start] + bytes(4) + page[_PAGE_SUM.stop :]
    found = zlib.crc32(without_sum.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return found.to_bytes(4, "big").translate(_REVERSED) == page[_PAGE_SUM]
