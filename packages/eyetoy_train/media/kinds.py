"""Kinds of sound and video files: by how they begin, or by their suffix where the content tells nothing."""

from __future__ import annotations

from typing import Literal

SoundKind = Literal[
    "wav", "flac", "ogg", "aiff", "caf", "w64", "mp3", "opus", "m4a", "aac", "wma", "mka", "streamed flac"
]

# .au is left out on purpose: libsndfile takes any file of that name for sound, even text.
SOUND_KINDS: dict[str, SoundKind] = {
    ".wav": "wav",
    ".flac": "flac",
    ".ogg": "ogg",
    ".oga": "ogg",
    ".opus": "opus",
    ".mp3": "mp3",
    ".aif": "aiff",
    ".aiff": "aiff",
    ".caf": "caf",
    ".w64": "w64",
    ".m4a": "m4a",
    ".mp4": "m4a",
    ".aac": "aac",
    ".wma": "wma",
    ".mka": "mka",
    ".webm": "mka",
}
"""Suffixes of sound files, in lower case, and the kind that each promises."""

VIDEO_SUFFIXES = (
    ".3gp",
    ".avi",
    ".flv",
    ".gif",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".ts",
    ".webm",
    ".wmv",
)
"""Suffixes of video files, in lower case."""

# Offset, bytes, kind. The first match counts, so OpusHead, 28 bytes into an Ogg page, comes before Ogg itself; and an
# ID3 tag means MP3 because that is where it is usual, although any kind may follow one.
_MAGIC: tuple[tuple[int, bytes, SoundKind], ...] = (
    (0, b"RIFF", "wav"),
    (0, b"RF64", "wav"),
    (0, b"fLaC", "flac"),
    (28, b"OpusHead", "opus"),
    (0, b"OggS", "ogg"),
    (0, b"FORM", "aiff"),
    (0, b"caff", "caf"),
    (0, b"riff", "w64"),
    (4, b"ftyp", "m4a"),
    (0, b"\x1aE\xdf\xa3", "mka"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "wma"),
    (0, b"ID3", "mp3"),
)


def sound_kind(content: bytes, suffix: str) -> SoundKind:
    """Return the kind of sound file that the content shows, or else the one that the suffix promises.

    Args:
        content: of the file.
        suffix: one of :data:`SOUND_KINDS`, in lower case.
    """
    for offset, magic, kind in _MAGIC:
        if content.startswith(magic, offset):
            # The header of FLAC counts the samples in 36 bits, from the middle of byte 21 on. An encoder that writes
            # into a pipe cannot go back to fill them in and leaves 0; libsndfile does not read such files.
            if kind == "flac" and not int.from_bytes(content[21:26], "big") & 0xF_FFFF_FFFF:
                return "streamed flac"
            return kind
    # MPEG audio has no header of the file, only frames, each after 11 set bits. The two bits of the layer are 0 in AAC.
    if content[:1] == b"\xff" and content[1:2] >= b"\xe0":
        return "aac" if content[1] & 0b0110 == 0 else "mp3"
    return SOUND_KINDS[suffix]
