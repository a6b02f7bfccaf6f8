"""The suffixes of the files of each modality, in one place; and kinds of sound files, by how they begin.

Folders list these files, and count all others as left out. A suffix is here if the libraries read such files, and if
people put them into a folder of sounds, videos or pictures.
"""

from __future__ import annotations

from typing import Literal

SoundKind = Literal[
    "wav",
    "flac",
    "streamed flac",
    "ogg",
    "opus",
    "mp3",
    "aiff",
    "au",
    "caf",
    "w64",
    "voc",
    "nist",
    "m4a",
    "aac",
    "wma",
    "mka",
    "ac3",
    "amr",
    "ape",
    "dsf",
    "dts",
    "mpc",
    "rm",
    "tak",
    "tta",
    "wv",
]

_SOUND_SUFFIXES: dict[SoundKind, str] = {
    "wav": ".wav .wave .bwf .rf64",
    "flac": ".flac",
    "ogg": ".ogg .oga .spx",
    "opus": ".opus",
    "mp3": ".mp3 .mp2 .mp1 .mpa .mpga .m2a",
    "aiff": ".aif .aiff .aifc",
    "au": ".au .snd",
    "caf": ".caf",
    "w64": ".w64",
    "voc": ".voc",
    "nist": ".nist .sph",
    "m4a": ".m4a .m4b .m4r .mp4 .alac .3ga .3gp .3gpp",
    "aac": ".aac .adts",
    "wma": ".wma .asf",
    "mka": ".mka .weba .webm",
    "ac3": ".ac3 .eac3 .ec3",
    "amr": ".amr .awb",
    "ape": ".ape",
    "dsf": ".dsf",
    "dts": ".dts",
    "mpc": ".mpc",
    "rm": ".ra .rm",
    "tak": ".tak",
    "tta": ".tta",
    "wv": ".wv",
}
SOUND_KINDS: dict[str, SoundKind] = {
    suffix: kind for kind, suffixes in _SOUND_SUFFIXES.items() for suffix in suffixes.split()
}
"""Suffixes of sound files, in lower case, and the kind that each promises."""

_VIDEOS = (
    ".3g2 .3gp .3gpp .f4v .m4v .mj2 .mov .mp4 .qt",  # MP4 and its relatives
    ".mk3d .mkv .webm",  # Matroska
    ".asf .avi .divx .wmv .wtv",  # Windows
    ".m2t .m2ts .mod .mpe .mpeg .mpg .mts .tod .tp .trp .ts .vob",  # MPEG streams of discs, cameras and broadcasts
    ".dv .flv .gif .ivf .mxf .nut .ogm .ogv .rm .rmvb .y4m",
    ".264 .265 .h264 .h265 .hevc .m1v .m2v .mjpeg .mjpg .obu",  # a codec's own streams
)
VIDEO_SUFFIXES = tuple(" ".join(_VIDEOS).split())
"""Suffixes of video files, in lower case."""

_PICTURES = (
    ".jpg .jpeg .jpe .jfif .jif .jfi .mpo",
    ".png .apng .webp .gif .avif .avifs",
    ".bmp .dib .tif .tiff .tga .ico .pcx .qoi .sgi",
    ".ppm .pgm .pbm .pnm",
    ".jp2 .j2k .j2c .jpc .jpf .jpx",
)
PICTURE_SUFFIXES = tuple(" ".join(_PICTURES).split())
"""Suffixes of picture files, in lower case. Pillow may lack what reads some; see `eyetoy_image.io.files`."""

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
    (0, b".snd", "au"),
    (0, b"Creative Voice File\x1a", "voc"),
    (0, b"NIST_1A\n", "nist"),
    (0, b"\x0bw", "ac3"),
    (0, b"#!AMR", "amr"),
    (0, b"MAC ", "ape"),
    (0, b"DSD ", "dsf"),
    (0, b"\x7f\xfe\x80\x01", "dts"),
    (0, b"MPCK", "mpc"),
    (0, b"MP+", "mpc"),
    (0, b".RMF", "rm"),
    (0, b".ra\xfd", "rm"),
    (0, b"tBaK", "tak"),
    (0, b"TTA1", "tta"),
    (0, b"wvpk", "wv"),
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
