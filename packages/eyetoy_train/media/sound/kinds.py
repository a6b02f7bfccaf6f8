"""Which kind of sound file something is: by how it begins, or by its name where that tells nothing."""

from __future__ import annotations

from typing import Literal

Kind = Literal["wav", "flac", "ogg", "aiff", "caf", "w64", "mp3", "opus", "m4a", "aac", "wma", "mka", "streamed flac"]

# Not .au: libsndfile takes whatever has that name for sound, text too.
KINDS: dict[str, Kind] = {
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
"""The suffixes of sound files, in lower case, and the kind that each promises."""

_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
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


def kind_of(content: bytes, suffix: str) -> Kind:
    """Return what the content of a file is, or else what its suffix promises, which must be one of `KINDS`."""
    for offset, magic, kind in _MAGIC:
        if content.startswith(magic, offset):
            return "streamed flac" if kind == "flac" and not _counted_by_flac(content) else kind
    if content[:1] == b"\xff" and content[1:2] >= b"\xe0":  # the first frame of MPEG sound
        return "aac" if content[1] & 0b0110 == 0 else "mp3"
    return KINDS[suffix]


def _counted_by_flac(content: bytes) -> int:
    # Written into a pipe, it counts no samples.
    return int.from_bytes(content[21:26], "big") & 0xF_FFFF_FFFF
