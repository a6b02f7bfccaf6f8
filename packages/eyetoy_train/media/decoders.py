"""Libraries that decode files and need not be there: whether one is, in which version, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

INSTALL_TORCHCODEC = 'pip install "eyetoy[torchcodec]", and FFmpeg 4 to 9: apt-get, conda or brew install ffmpeg'


class MissingDecoderError(ValueError):
    """A decoder that was asked for, or is needed, is not there. The message says what to install."""


@dataclass(frozen=True)
class Found:
    """A library with its version, or what is wrong with it."""

    version: str = ""
    problem: str = ""


def find_library(name: str, version: Callable[[], str]) -> Found:
    """Return what there is of a library; `version` imports it, and names it with its version."""
    try:
        return Found(version=version())
    except ModuleNotFoundError:
        return Found(problem=f"{name} is not installed")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # without its own library, or too old
        return Found(problem=f"{name} cannot be loaded ({str(error).partition(chr(10))[0]})")


def pyav_version() -> str:
    """Import PyAV, which carries its own FFmpeg."""
    import av

    return f"PyAV {av.__version__}"


def torchcodec_version() -> str:
    """Import torchcodec, and the FFmpeg that it finds.

    Raises:
        ImportError: it is not there, or finds none.
    """
    import torchcodec

    if torchcodec.ffmpeg_major_version is None:
        raise ImportError("it finds no FFmpeg")
    return f"torchcodec {torchcodec.__version__} with FFmpeg {torchcodec.ffmpeg_major_version}"
