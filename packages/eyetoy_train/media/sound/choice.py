"""Which library decodes which kind of sound file: the best one that is there, or the one that is asked for.

What is installed changes the speed, hardly what is heard: of a whole file all three give the same samples, to the last
bit where the coding lost nothing and within a few millionths elsewhere. The order of preference goes around what was
found otherwise, with soundfile 0.14, PyAV 18.1 and torchcodec 0.17:

- FFmpeg, which is behind PyAV and torchcodec, passes over damage in flac that soundfile refuses, and ends an ogg file
  some milliseconds early or late.
- soundfile writes to the terminal what it thinks of a damaged MP3 file, reads a part of one whose bit rate varies if
  that does not announce its length, and is slow for Opus.
- torchcodec reads a part of a wav file of ADPCM, and loses the last frame of a wma file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Literal

from eyetoy_train.media.decoders import (
    INSTALL_TORCHCODEC,
    Found,
    MissingDecoderError,
    find_library,
    pyav_version,
    torchcodec_version,
)
from eyetoy_train.media.sound.decoders import DecoderName
from eyetoy_train.media.sound.kinds import Kind

Decoder = Literal["auto", "torchcodec", "soundfile", "pyav"]

_ORDER: dict[Kind, tuple[DecoderName, ...]] = {
    **dict.fromkeys(("wav", "flac", "ogg", "aiff", "caf", "w64"), ("soundfile", "pyav", "torchcodec")),
    **dict.fromkeys(("mp3", "opus"), ("torchcodec", "pyav", "soundfile")),
    **dict.fromkeys(("m4a", "aac", "mka", "streamed flac"), ("torchcodec", "pyav")),
    "wma": ("pyav", "torchcodec"),
}
"""The decoders of every kind, the best one first."""

_INSTALL: dict[DecoderName, str] = {
    "soundfile": 'pip install "eyetoy[audio]"',
    "pyav": 'pip install "eyetoy[audio]"',
    "torchcodec": INSTALL_TORCHCODEC,
}


def choose_decoder(kind: Kind, decoder: Decoder = "auto") -> DecoderName:
    """Return the decoder that is asked for, or else the best one that is there for a kind of file.

    Raises:
        MissingDecoderError: it is not there or cannot be loaded, or none is that reads this kind.
    """
    if decoder != "auto":
        _require(decoder)
        return decoder
    best = _best(kind)
    if best is None:
        problems = " and ".join(_problems(_ORDER[kind]))
        raise MissingDecoderError(f"nothing reads {kind} files here: {problems}; {_INSTALL['pyav']}")
    return best


def can_read(decoder: DecoderName, kind: Kind) -> bool:
    """Whether a decoder, where it is there, reads a kind of file."""
    return decoder in _ORDER[kind]


def describe_decoders(decoder: Decoder = "auto") -> str:
    """Say in one line what decodes which kind of sound file here, and why.

    Raises:
        MissingDecoderError: the decoder that is asked for is not there or cannot be loaded.
    """
    if decoder != "auto":
        _require(decoder)
        return f"sound is decoded by {_find(decoder).version}, as asked for"
    kinds: dict[str, list[Kind]] = {}
    for kind in _ORDER:
        best = _best(kind)
        kinds.setdefault(_find(best).version if best else "nothing", []).append(kind)
    by = ", ".join(f"{version} ({', '.join(read)})" for version, read in kinds.items())
    return "; ".join([f"sound is decoded by {by}, the best that is there for each", *_problems(_INSTALL)])


def _problems(decoders: Iterable[DecoderName]) -> list[str]:
    return [problem for decoder in decoders if (problem := _find(decoder).problem)]


def _best(kind: Kind) -> DecoderName | None:
    return next((decoder for decoder in _ORDER[kind] if not _find(decoder).problem), None)


def _require(decoder: DecoderName) -> None:
    problem = _find(decoder).problem
    if problem:
        raise MissingDecoderError(f"the decoder {decoder} is asked for, but {problem}; {_INSTALL[decoder]}")


@cache
def _find(decoder: DecoderName) -> Found:
    return find_library(decoder, _VERSIONS[decoder])


def _soundfile_version() -> str:
    import soundfile

    return f"soundfile {soundfile.__version__}"


_VERSIONS: dict[DecoderName, Callable[[], str]] = {
    "soundfile": _soundfile_version,
    "pyav": pyav_version,
    "torchcodec": torchcodec_version,
}
