"""Which library decodes which video: torchcodec where it is there, and PyAV, which carries its own FFmpeg, otherwise.

What is installed does not change what is seen: PyAV says which frames a file has and whether it is whole, and both
decode the same ones, to the same pixels if these have eight bits.
"""

from __future__ import annotations

from collections.abc import Callable
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

Decoder = Literal["auto", "torchcodec", "pyav"]
DecoderName = Literal["torchcodec", "pyav"]

COUNTED = "AVI and MPEG, which do not store when each frame is shown,"

_INSTALL: dict[DecoderName, str] = {
    "pyav": 'pip install "eyetoy[video]"',
    "torchcodec": INSTALL_TORCHCODEC,
}


def choose_decoder(decoder: Decoder, *, counted: bool) -> DecoderName:
    """Return the decoder that is asked for, or else the best one that is there.

    Args:
        decoder: what is asked for.
        counted: whether the file does not store when its frames are shown; torchcodec cannot number them then.

    Raises:
        MissingDecoderError: what is asked for is not there or cannot be loaded.
    """
    if decoder != "auto":
        require(decoder)
        return decoder
    return "pyav" if counted or _find("torchcodec").problem else "torchcodec"


def require(decoder: DecoderName) -> None:
    """Raise MissingDecoderError if a decoder is not there or cannot be loaded."""
    problem = _find(decoder).problem
    if problem:
        raise MissingDecoderError(f"{decoder} is needed to read videos, but {problem}; {_INSTALL[decoder]}")


def describe_decoders(decoder: Decoder = "auto") -> str:
    """Say in one line what decodes videos here, and why.

    Raises:
        MissingDecoderError: the decoder that is asked for, or PyAV, which goes through every file's packets, is not
            there or cannot be loaded.
    """
    require("pyav")
    if decoder != "auto":
        require(decoder)
        return f"videos are decoded by {_find(decoder).version}, as asked for"
    pyav, torchcodec = _find("pyav").version, _find("torchcodec")
    if torchcodec.problem:
        return f"videos are decoded by {pyav}, since {torchcodec.problem}"
    return f"videos are decoded by {torchcodec.version}, since it is there; {COUNTED} by {pyav}"


@cache
def _find(decoder: DecoderName) -> Found:
    return find_library(decoder, _VERSIONS[decoder])


_VERSIONS: dict[DecoderName, Callable[[], str]] = {"pyav": pyav_version, "torchcodec": torchcodec_version}
