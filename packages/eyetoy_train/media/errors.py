"""Errors of decoding: the content is wrong, or no library is there to decode it."""

from __future__ import annotations

from typing import ClassVar


class MissingDecoderError(ValueError):
    """A decoder that was asked for, or is needed, is not there. The message says what to install."""


class NotMediaError(ValueError):
    """Content that cannot be decoded.

    Args:
        wrong: what is wrong with it.
        right: what would be right; by default what its class expects.
    """

    expected: ClassVar[str]

    def __init__(self, wrong: str, right: str = "") -> None:
        super().__init__(f"{wrong}; {right or self.expected}")
        self.wrong = wrong


class NotSoundError(NotMediaError):
    """Content that is no sound, or damaged."""

    expected = "it should be the sound that its suffix promises"


class UnknownToDecoderError(NotSoundError):
    """Content that one library gets no whole sound out of, and that another one may know."""


class NotVideoError(NotMediaError):
    """Content that is no whole video, or none that can be read as asked."""

    expected = "expected a whole video file that FFmpeg can decode, such as .mp4, .mkv, .webm, .mov or .avi"
