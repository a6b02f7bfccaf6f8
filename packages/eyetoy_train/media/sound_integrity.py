"""Check whether a sound file is whole, as far as its own headers tell.

Decoders read the rest of a cut file without a word, and a training set would hold sounds that end too early.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eyetoy_train.media.errors import NotSoundError, UnknownToDecoderError
from eyetoy_train.media.kinds import SoundKind

# A program that writes into a pipe does not know the length, and announces one near the largest that 31 or 32 bits
# hold, such as 0x7FFFF000 or 0xFFFFFFFF. From here on a size says nothing.
UNKNOWN_BYTES = 0x7FFF_0000
# Headers may count whole frames, with the silence that the encoder adds at both ends, of which decoders drop some.
# An MP3 frame has 1152 samples; a few of them may be missing without any damage.
LENGTH_TOLERANCE = 4 * 1152
# For other kinds libraries guess the length from the bit rate.
_COUNTED: tuple[SoundKind, ...] = ("wav", "flac", "aiff", "caf", "w64", "ape", "tta", "wv")
_ALL_OF_IT = "it should hold all of it"


@dataclass(frozen=True)
class Chunks:
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
CHUNKS: dict[SoundKind, Chunks] = {
    "wav": Chunks(12, struct.Struct("<4sI"), b"data", align=2),
    "aiff": Chunks(12, struct.Struct(">4sI"), b"SSND", align=2),
    "caf": Chunks(8, struct.Struct(">4sQ"), b"data"),
    "w64": Chunks(40, struct.Struct("<16sQ"), b"data", counts_head=True, align=8),
    "m4a": Chunks(0, struct.Struct(">I4s"), b"mdat", counts_head=True),
    "wma": Chunks(0, struct.Struct("<16sQ"), b"6&\xb2u\x8ef\xcf\x11", counts_head=True),
}

_PAGE_HEAD = 27  # bytes of an Ogg page before the sizes of its segments; the last one counts these
_PAGE_SUM = slice(22, 26)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_whole(content: bytes, kind: SoundKind) -> None:
    """Refuse content that was cut short or, in Ogg, is damaged, as far as its kind shows this before decoding.

    A missing byte is seen in wav, aiff, caf, w64, au, voc, nist, m4a and wma; in ogg and opus too, but not missing
    pages at the end.

    Raises:
        NotSoundError: it is cut short or damaged.
    """
    if kind in ("ogg", "opus"):
        _check_pages(content)
    elif kind in CHUNKS:
        _check_chunks(content, CHUNKS[kind])
        if kind == "wav":
            _check_after_samples(content)
    elif kind in _HEADS:
        promised = _HEADS[kind](content)
        if promised is None:
            raise NotSoundError(
                f"it does not begin as {kind} files do", "it should be the sound that its suffix promises"
            )
        start, size = promised
        held = len(content) - start
        if held < size < UNKNOWN_BYTES:
            raise NotSoundError(f"it is cut short: it announces {size} bytes of samples and holds {held}", _ALL_OF_IT)


def check_length(content: bytes, kind: SoundKind, *, num_samples: int, announced: int | None) -> None:
    """Refuse content of mp3, wav, flac, aiff, caf, w64, ape, tta or wv that held fewer samples than its header counts.

    Args:
        content: of the file.
        kind: of the file.
        num_samples: how many samples of a channel were decoded.
        announced: how many the header announces, as the decoder tells.

    Raises:
        NotSoundError: it is cut short.
    """
    counted = counted_by_mp3(content) if kind == "mp3" else announced if kind in _COUNTED else None
    # FLAC counts exactly, and its frames are smaller than the tolerance: a lost one would not be noticed.
    if counted is not None and num_samples < counted - (0 if kind == "flac" else LENGTH_TOLERANCE):
        wrong = f"it is cut short: it announces {counted} samples and holds {num_samples}"
        raise UnknownToDecoderError(wrong, _ALL_OF_IT)


def counted_by_mp3(content: bytes) -> int | None:
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
    return frames * mp3_samples(first_frame[1]) if flags & 1 else None


def mp3_samples(second_byte: int) -> int:
    """Return how many samples of a channel an MP3 frame holds, whose head has this second byte."""
    return 1152 if second_byte & 0b1000 else 576  # MPEG 2, for rates of 24 kHz and less, has half as many


def chunks_of(content: bytes, chunks: Chunks) -> Iterator[tuple[int, bytes, int]]:
    """Yield of each chunk where its head is, its name, and the size of what follows the head."""
    at = chunks.start
    while at + chunks.head.size <= len(content):
        # The name is bytes and the size an int, whichever comes first in this kind of file.
        name, size = sorted(chunks.head.unpack_from(content, at), key=lambda field: isinstance(field, int))
        size -= chunks.head.size if chunks.counts_head else 0
        # Sizes below the head's are special (in m4a, 0 is "to the end" and 1 "in 8 bytes, later") or nonsense: what
        # follows cannot be found, and it is left to the decoder to judge.
        if size < 0:
            return
        yield at, name, size
        at += chunks.head.size + size
        at += -at % chunks.align  # for example from 23 on to 24


def _check_chunks(content: bytes, chunks: Chunks) -> None:
    for at, name, size in chunks_of(content, chunks):
        if name.startswith(chunks.samples):
            if content.startswith(b"RF64") and content.startswith(b"ds64", chunks.start):  # 64 bits, in the first chunk
                size = int.from_bytes(content[chunks.start + 16 : chunks.start + 24], "little")
            held = len(content) - at - chunks.head.size
            if held < size < UNKNOWN_BYTES:
                wrong = f"it is cut short: it announces {size} bytes of samples and holds {held}"
                raise NotSoundError(wrong, _ALL_OF_IT)
            return


def _au_samples(content: bytes) -> tuple[int, int] | None:
    """Return where the samples of a file of Sun or NeXT start, and the announced number of their bytes."""
    if not content.startswith(b".snd") or len(content) < 24:
        return None
    start, size = struct.unpack_from(">II", content, 4)
    return start, size


def _voc_samples(content: bytes) -> tuple[int, int] | None:
    """Return where the samples of a file of Creative Labs start, and the announced number of their bytes."""
    if not content.startswith(b"Creative Voice File\x1a") or len(content) < 26:
        return None
    at = int.from_bytes(content[20:22], "little")
    return at + 4, int.from_bytes(content[at + 1 : at + 4], "little")  # of the first block, after its type


def _nist_samples(content: bytes) -> tuple[int, int] | None:
    """Return where the samples of a file of NIST start, and the number of bytes that its text announces."""
    text = content[:_NIST_HEAD]
    found = {name: int(value) for name, value in _NIST_NUMBER.findall(text)}
    if not text.startswith(b"NIST_1A\n") or not found:
        return None
    # Compressed samples, which no library here reads, take fewer bytes.
    size = 0 if b"shorten" in text else found.get(b"sample_count", 0) * found.get(b"sample_n_bytes", 1)
    return len(text), size * found.get(b"channel_count", 1)


_NIST_HEAD = 1024
_NIST_NUMBER = re.compile(rb"^(sample_count|sample_n_bytes|channel_count) -i (\d{1,18})\s*$", re.MULTILINE)
_HEADS: dict[SoundKind, Callable[[bytes], tuple[int, int] | None]] = {
    "au": _au_samples,  # libsndfile takes any content for it if nothing else fits
    "voc": _voc_samples,
    "nist": _nist_samples,
}


def with_known_length(content: bytes) -> bytes:
    """Return a wav file that announces samples to its end if its own size of them, 0, was never filled in.

    A recorder that loses power leaves it so, and so does a program that writes into a pipe.
    """
    samples = _wav_samples(content)
    if samples is None or samples[1] or _has_chunk(content, samples[0]):
        return content
    return b"".join((content[: samples[0] - 4], b"\xff" * 4, content[samples[0] :]))


def _check_after_samples(content: bytes) -> None:
    """Refuse a wav file that holds no samples, or so much that is no chunk after them that its size must be wrong."""
    samples = _wav_samples(content)
    if samples is None:
        return
    start, size = samples
    end = start + size + size % 2
    rest = len(content) - end
    # A chunk after an odd number of bytes should begin at an even place, and in some files does not.
    is_known = _has_chunk(content, end) or (size % 2 and _has_chunk(content, end - 1))
    if not size and is_known:
        raise NotSoundError("it holds no samples", "it should hold at least one")
    if not is_known and rest > size > 0 and content.count(0, end) < rest:
        wrong = f"its header announces {size} bytes of samples, and {rest} bytes follow that are nothing it names"
        raise NotSoundError(wrong, "it should announce all of its samples")


def _wav_samples(content: bytes) -> tuple[int, int] | None:
    """Return where the samples of a wav file start, and the announced number of their bytes."""
    found = (chunk for chunk in chunks_of(content, CHUNKS["wav"]) if chunk[1] == CHUNKS["wav"].samples)
    at, _, size = next(found, (0, b"", 0))
    return (at + 8, size) if at else None


def _has_chunk(content: bytes, at: int) -> bool:
    """Whether there is a chunk of wav at a place, or nothing."""
    name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
    return len(content) < at + 8 or (
        name.isascii() and name.decode().isprintable() and at + 8 + size <= len(content) + 1
    )


def pages_of(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each page of an Ogg file starts and ends: it gives its size, and the next one follows at once."""
    at = 0
    while content.startswith(b"OggS", at):
        start = at + _PAGE_HEAD
        # Slices instead of indices: where the file ends within a page's head they are short, not an IndexError.
        segments = content[start : start + sum(content[start - 1 : start])]
        end = start + len(segments) + sum(segments)
        yield at, end
        at = end


def _check_pages(content: bytes) -> None:
    at = 0
    for start, at in pages_of(content):
        if at > len(content):
            raise NotSoundError(f"it is cut short: it ends in its page at byte {start}", _ALL_OF_IT)
        if not _is_intact(content[start:at]):
            raise NotSoundError(f"it is damaged: its page at byte {start} has not its checksum", "it should be whole")
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
