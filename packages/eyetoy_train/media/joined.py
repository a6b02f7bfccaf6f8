"""Take apart files that hold several sounds, one after the other, as recorders, radio streams and `cat` leave them.

Most libraries read the first sound, or also a part of the next, and say nothing about the rest.
"""

from __future__ import annotations

import re
import struct

from eyetoy_train.media.kinds import SoundKind, sound_kind
from eyetoy_train.media.sound_integrity import CHUNKS, chunks_of, counted_by_mp3, mp3_samples, pages_of

_FIRST_PAGE = 0b010  # a flag of Ogg, of the first page of each stream
# The mark of FLAC and the head of its first block, which has 34 bytes and perhaps is the last one.
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_STARTS: dict[SoundKind, re.Pattern[bytes]] = {
    "flac": _FLAC,
    "streamed flac": _FLAC,
    # Four bytes would occur by chance in a long film; the type of the document stands in the head that they begin.
    "mka": re.compile(rb"\x1aE\xdf\xa3(?=.{1,64}?(?:matroska|webm))", re.DOTALL),
}
"""How each sound of a kind without a list of contents begins."""

# By version (2.5, none, 2, 1): samples per second, and kbit/s of layer III.
_MP3_RATES = ((11_025, 12_000, 8_000), None, (22_050, 24_000, 16_000), (44_100, 48_000, 32_000))
_MP3_KBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_1, _LAYER_3, _MONO = 3, 1, 3


def split_sounds(content: bytes, kind: SoundKind) -> list[bytes]:
    """Return the sounds of a file, of which nearly every file has one.

    In MP3, tags between the frames and after the last one are left out: FFmpeg takes them for damage.

    Args:
        content: of a file that `check_whole` has passed.
        kind: of the file.
    """
    if kind == "mp3":
        return _mp3_sounds(content)
    if kind in ("ogg", "opus"):
        starts = _ogg_starts(content)
    elif kind in _STARTS:
        starts = [0, *(found.start() for found in _STARTS[kind].finditer(content, 1))]
    elif kind in CHUNKS:
        places = (at for at, _, _ in chunks_of(content, CHUNKS[kind]))
        starts = [0, *(at for at in places if at and sound_kind(content[at : at + 32], ".mka") == kind)]
    else:  # aac, whose frames have no beginning but the first one
        return [content]
    # The first sound's chunks may not lead beyond the second one, whose own do.
    sounds = [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]
    return [*sounds[:-1], *split_sounds(sounds[-1], kind)] if kind in CHUNKS and len(sounds) > 1 else sounds


def without_title(content: bytes) -> bytes:
    """Return a sound without the ID3 tags before it, which belong to MP3, and which some programs put before others."""
    rest = content[_tags_end(content, 0) :]
    return rest if rest != content and sound_kind(rest, ".mka") != "mka" else content


def _ogg_starts(content: bytes) -> list[int]:
    starts, in_heads = [0], True
    for start, _ in pages_of(content):
        is_head = bool(content[start + 5] & _FIRST_PAGE)
        if is_head and not in_heads:  # several heads in a row are of streams side by side, such as sound and video
            starts.append(start)
        in_heads = is_head
    return starts


def _mp3_sounds(content: bytes) -> list[bytes]:
    """Return the sounds of an MP3 file; the file as it is if there is anything but frames and tags among them.

    An encoder begins each sound with a frame that holds a table, named Xing or Info. The first one alone makes decoders
    stop at the length that it counts.
    """
    sounds: list[list[bytes]] = [[]]
    at = num_frames = 0
    while at < len(content):
        start = at = _tags_end(content, at)
        if sounds[-1] and _mp3_frame(content, at) and _has_table(content, at):
            sounds.append([])
            num_frames = 0
        while (size := _mp3_frame(content, at)) and not (at > start and _has_table(content, at)):
            at += size
            num_frames += 1
        if at == start:  # neither a tag nor a frame
            break
        sounds[-1].append(content[start:at])
    joined = [b"".join(pieces) for pieces in sounds]
    ends_well = at >= len(content) or (_has_counted(joined[-1], num_frames) and not _has_frames(content, at))
    return joined if ends_well and all(joined) else [content]


def _has_counted(sound: bytes, num_frames: int) -> bool:
    """Whether an MP3 sound announces how many frames it has, and has as many: then nothing of it can follow."""
    counted = counted_by_mp3(sound)
    # The table's own frame is silent, and not counted.
    return counted is not None and (num_frames - 1) * mp3_samples(sound[1]) >= counted


def _has_frames(content: bytes, at: int) -> bool:
    """Whether there are two MP3 frames in a row anywhere from a place on."""
    while (at := content.find(b"\xff", at)) >= 0:
        size = _mp3_frame(content, at)
        if size and _mp3_frame(content, at + size):
            return True
        at += 1
    return False


def _mp3_frame(content: bytes, at: int) -> int:
    """Return the number of bytes of the MP3 frame at a place, or 0 if there is none."""
    head = int.from_bytes(content[at : at + 4], "big")
    version, layer, rate_index = head >> 19 & 3, head >> 17 & 3, head >> 10 & 3
    rates, index = _MP3_RATES[version], head >> 12 & 15
    if head >> 21 != 0x7FF or layer != _LAYER_3 or rates is None or rate_index == 3 or not 1 <= index <= 14:
        return 0
    kbits = (_MP3_KBITS_1 if version == _MPEG_1 else _MP3_KBITS_2)[index - 1]
    return mp3_samples(content[at + 1]) // 8 * kbits * 1000 // rates[rate_index] + (head >> 9 & 1)


def _has_table(content: bytes, at: int) -> bool:
    """Whether the MP3 frame at a place holds no sound but a table."""
    # The table follows the head and the description of the frame, which is shorter for one channel and for MPEG 2.
    steps = (content[at + 3] >> 6 == _MONO) + (content[at + 1] >> 3 & 3 != _MPEG_1)
    return content.startswith((b"Xing", b"Info"), at + 4 + (32, 17, 9)[steps])


def _tags_end(content: bytes, at: int) -> int:
    """Return where the tags at a place end: ID3, of both versions, and APE."""
    while size := _tag_size(content, at):
        at += size
    return at


def _tag_size(content: bytes, at: int) -> int:
    if content.startswith(b"ID3", at) and len(content) >= at + 10:
        # Seven bits in each byte, so that no size looks like the start of a frame. A flag announces a copy of the head.
        size = sum(
            (byte & 0x7F) << shift for byte, shift in zip(content[at + 6 : at + 10], (21, 14, 7, 0), strict=True)
        )
        return size + (20 if content[at + 5] & 0x10 else 10)
    if content.startswith(b"TAG", at):
        return 128
    if content.startswith(b"APETAGEX", at) and len(content) >= at + 32:
        size, flags = struct.unpack_from("<I4xI", content, at + 12)
        return size + 32 if flags >> 29 & 1 else 32  # a head and a foot look the same; the size counts the foot
    return 0
