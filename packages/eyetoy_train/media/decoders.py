"""Libraries that decode files: which are there, and which one decodes which kind.

None of them has to be installed, so each is imported only when it is asked about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from eyetoy_train.media.errors import MissingDecoderError

DecoderName = Literal["soundfile", "pyav", "torchcodec"]
Decoder = Literal["auto", "soundfile", "pyav", "torchcodec"]


@dataclass(frozen=True)
class Found:
    """A library with its version, or what is wrong with it."""

    version: str = ""
    problem: str = ""


@cache
def find(decoder: DecoderName) -> Found:
    """Import a library, and return its version or why it cannot be used."""
    try:
        return Found(version=_version(decoder))
    except ModuleNotFoundError:
        return Found(problem=f"{decoder} is not installed")
    # Installed, but without the shared library that it wraps (OSError, RuntimeError), or too old to say which
    # FFmpeg it found (AttributeError). Such messages run over many lines; the first one has the reason.
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return Found(problem=f"{decoder} cannot be loaded ({str(error).partition(chr(10))[0]})")


def _version(decoder: DecoderName) -> str:
    if decoder == "soundfile":
        import soundfile

        return f"soundfile {soundfile.__version__}"
    if decoder == "pyav":  # carries its own FFmpeg
        import av

        return f"PyAV {av.__version__}"
    import torchcodec

    # It loads the FFmpeg of the system. Without one the import succeeds all the same, and the first file fails.
    if torchcodec.ffmpeg_major_version is None:
        raise ImportError("it finds no FFmpeg")
    return f"torchcodec {torchcodec.__version__} with FFmpeg {torchcodec.ffmpeg_major_version}"


@dataclass(frozen=True, kw_only=True)
class Decoders:
    """The libraries that decode one medium, and in which order they are preferred.

    Args:
        subject: how a sentence about them begins, such as "videos are".
        extra: the extra of eyetoy that installs PyAV and soundfile, such as "video".
        best_first: the libraries that read each kind of file, the best one first.
        only_first: those of them that are not asked about a file that another one does not know.
    """

    subject: str
    extra: str
    best_first: Mapping[str, tuple[DecoderName, ...]]
    only_first: Mapping[str, tuple[DecoderName, ...]] = field(default_factory=dict)

    def choose(self, kind: str, decoder: Decoder = "auto") -> DecoderName:
        """Return the decoder that is asked for, or else the best one that is there for a kind of file.

        One that is asked for is returned even if it does not read this kind; see `reads`.

        Raises:
            MissingDecoderError: it is not there or cannot be loaded, or none is that reads this kind.
        """
        return self.candidates(kind, decoder)[0]

    def candidates(self, kind: str, decoder: Decoder = "auto") -> list[DecoderName]:
        """Return the decoder that is asked for, or else all that are there for a kind of file, in order of preference.

        Which they are depends on the kind and on what is installed, so that a file is always read by the same one.

        Raises:
            MissingDecoderError: as in `choose`.
        """
        if decoder != "auto":
            self.require(decoder)
            return [decoder]
        there = [candidate for candidate in self.best_first[kind] if not find(candidate).problem]
        if not there:
            problems = " and ".join(find(candidate).problem for candidate in self.best_first[kind])
            raise MissingDecoderError(f"nothing reads {kind} files here: {problems}; {self._install('pyav')}")
        return [name for name in there if name == there[0] or name not in self.only_first.get(kind, ())]

    def reads(self, decoder: DecoderName, kind: str) -> bool:
        """Whether a decoder, if it is there, reads a kind of file."""
        return decoder in self.best_first[kind]

    def require(self, decoder: DecoderName) -> None:
        """Raise MissingDecoderError if a decoder is not there or cannot be loaded."""
        problem = find(decoder).problem
        if problem:
            raise MissingDecoderError(
                f"{self.subject} to be decoded by {decoder}, but {problem}; {self._install(decoder)}"
            )

    def describe(self, decoder: Decoder = "auto") -> str:
        """Say in one line which library decodes which kind of file here, and which are missing.

        Raises:
            MissingDecoderError: the decoder that is asked for is not there or cannot be loaded.
        """
        if decoder != "auto":
            self.require(decoder)
            return f"{self.subject} decoded by {find(decoder).version}, as asked for"
        kinds: dict[str, list[str]] = {}  # by version, such as {"PyAV 18.1": ["wma", "m4a"]}
        for kind, candidates in self.best_first.items():
            there = (find(candidate).version for candidate in candidates if not find(candidate).problem)
            kinds.setdefault(next(there, "nothing"), []).append(kind)
        by = ", ".join(f"{version} ({', '.join(read)})" for version, read in kinds.items())
        all_of_them = dict.fromkeys(name for candidates in self.best_first.values() for name in candidates)
        problems = [found.problem for found in map(find, all_of_them) if found.problem]
        return "; ".join([f"{self.subject} decoded by {by}, the best that is there for each", *problems])

    def _install(self, decoder: DecoderName) -> str:
        if decoder == "torchcodec":
            return 'pip install "eyetoy[torchcodec]", and FFmpeg 4 to 9: apt-get, conda or brew install ffmpeg'
        return f'pip install "eyetoy[{self.extra}]"'


def torchcodec_reason(error: Exception) -> str:
    """Return the first line of an error of torchcodec, without the place in its C++ code that it begins with."""
    return re.sub(r"^.*\.cpp:\d+, ", "", str(error).partition("\n")[0]).strip()
