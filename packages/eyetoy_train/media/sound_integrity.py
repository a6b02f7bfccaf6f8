"""Check whether a sound file is whole, as far as its own headers tell.

Decoders read the rest of a cut file without a word, and a training set would hold sounds that end too early.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from eyetoy_train.media.errors import NotSoundError
from eyetoy_train.media.kinds import SoundKind

# A program that writes into a pipe does not know the length, and announces one near the largest that 31 or 32 bits
# hold, such as 0x7FFFF000 or 0xFFFFFFFF. From here on a size says nothing.
UNKNOWN_BYTES = 0x7FFF_0000
# Headers may count whole frames, with the silence that the encoder adds at both ends, of which decoders drop some.
# An MP3 frame has 1152 samples; a few of them may be missing without any damage.
LENGTH_TOLERANCE = 4 * 1152
# For other kinds libraries guess the length from the bit rate.
_COUNTED: tuple[SoundKind, ...] = ("wav", "flac", "aiff", "caf", "w64")
_ALL_OF_IT = "it should hold all of it"


@dataclass(frozen=True)
class _Chunks:
    """How a kind of file is made of chunks, each a head with name and size, then content; one holds the samples."""

    start: int
    """Where the first chunk begins, after the head of the file."""
    head: struct.Struct
    """Name and size, in this order or the other."""
    samples: bytes
    """The first bytes of the name of the chunk with the samples."""
    counts_head: bool = False
    """Whether the size is that of head and content."""
    align: int = 1
    """Chunks begin at multiples of it."""


# For example, a wav file is b"RIFF", size, b"WAVE", which are 12 bytes; then b"fmt ", 16, 16 bytes; then b"data", size,
# and as many bytes of samples.
_CHUNKS: dict[SoundKind, _Chunks] = {
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


def check_whole(content: bytes, kind: SoundKind) -> None:
    """Refuse content that was cut short or, in Ogg, is damaged, as far as its kind shows this before decoding.

    A missing byte is seen in wav, aiff, caf, w64, m4a and wma; in ogg and opus too, but not missing pages at the end.

    Raises:
        NotSoundError: it is cut short or damaged.
    """
    if kind in ("ogg", "opus"):
        _check_pages(content)
    elif kind in _CHUNKS:
        _check_chunks(content, _CHUNKS[kind])


def check_length(content: bytes, kind: SoundKind, *, num_samples: int, announced: int | None) -> None:
    """Refuse content of mp3, wav, flac, aiff, caf or w64 that held fewer samples than its header counts.

    Args:
        content: of the file.
        kind: of the file.
        num_samples: how many samples of a channel were decoded.
        announced: how many the header announces, as the decoder tells.

    Raises:
        NotSoundError: it is cut short.
    """
    counted = _counted_by_mp3(content) if kind == "mp3" else announced if kind in _COUNTED else None
    if counted is not None and num_samples < counted - LENGTH_TOLERANCE:
        raise NotSoundError(f"it is cut short: it announces {counted} samples and holds {num_samples}", _ALL_OF_IT)


def _counted_by_mp3(content: bytes) -> int | None:
    """Return how many samples of a channel an MP3 file announces, if it does."""
    # MP3 has no header. Encoders put a first frame of silence that holds a table, named Xing or, at a constant bit
    # rate, Info: name, flags, number of frames. An ID3 tag may stand before it; its size has seven bits in each byte,
    # so that none looks like the start of a frame.
    start = 0
    if content.startswith(b"ID3"):
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=False))
    first_frame = content[start : start + 200]
    table = max(first_frame.find(name) for name in (b"Xing", b"Info"))
    if table < 0 or len(first_frame) < table + 12:
        return None
    flags, frames = struct.unpack_from(">II", first_frame, table + 4)
    is_mpeg1 = first_frame[1] & 0b1000  # MPEG 2, for rates of 24 kHz and less, has half as many samples in a frame
    return frames * (1152 if is_mpeg1 else 576) if flags & 1 else None


def _check_chunks(content: bytes, chunks: _Chunks) -> None:
    at = chunks.start
    while at + chunks.head.size <= len(content):
        # The name is bytes and the size an int, whichever comes first in this kind of file.
        name, size = sorted(chunks.head.unpack_from(content, at), key=lambda field: isinstance(field, int))
        size -= chunks.head.size if chunks.counts_head else 0
        # Sizes below the head's are special (in m4a, 0 is "to the end" and 1 "in 8 bytes, later") or nonsense: what
        # follows cannot be found, and it is left to the decoder to judge.
        if size < 0:
            return
        at += chunks.head.size
        if name.startswith(chunks.samples):
            held = len(content) - at
            if held < size < UNKNOWN_BYTES:
                wrong = f"it is cut short: it announces {size} bytes of samples and holds {held}"
                raise NotSoundError(wrong, _ALL_OF_IT)
            return
        at += size + -(at + size) % chunks.align  # for example 3 bytes after offset 20: to 23, and on to 24


def _check_pages(content: bytes) -> None:
    """Go from page to page of an Ogg file: each gives its size and a checksum, and the next one follows at once."""
    at = 0
    while content.startswith(b"OggS", at):
        start = at + _PAGE_HEAD
        # Slices instead of indices: where the file ends within a page's head they are short, not an IndexError.
        segments = content[start : start + sum(content[start - 1 : start])]
        end = start + len(segments) + sum(segments)
        if end > len(content):
            raise NotSoundError(f"it is cut short: it ends in its page at byte {at}", _ALL_OF_IT)
        if not _is_intact(content[at:end]):
            raise NotSoundError(f"it is damaged: its page at byte {at} has not its checksum", "it should be whole")
        at = end
    # Tags of other programs may follow the last page. Another page further on means that one between them is lost.
    if content.find(b"OggS", at) >= 0:
        raise NotSoundError(f"it is damaged: there is no page at byte {at}", "it should be whole")


def _is_intact(page: bytes) -> bool:
    # Ogg's checksum is a CRC-32 with the polynomial of zlib, but most significant bit first and without the inversion
    # at both ends. A loop over bytes in Python would take seconds for a file; zlib gives the same sum if the bits of
    # every byte and of the result are reversed and the inversions undone. It is taken with its own field zeroed.
    without_sum = page[: _PAGE_SUM.start] + bytes(4) + page[_PAGE_SUM.stop :]
    found = zlib.crc32(without_sum.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return found.to_bytes(4, "big").translate(_REVERSED) == page[_PAGE_SUM]
