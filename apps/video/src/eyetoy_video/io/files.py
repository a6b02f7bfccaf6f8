"""Video files as clips: tensors of some of their frames.

A file is gone through twice. Its packets say when each frame is shown, without decoding any; then only the stretches
that hold a wanted frame are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from torch import Tensor

from eyetoy_train import UnreadableFileError
from eyetoy_train.classification.task import equal_spans
from eyetoy_train.data.hub import stored_content
from eyetoy_train.media.clip import KINDS, Decoder, NotVideoError, Source, Video, decode, open_video
from eyetoy_video.transforms.sampling import ClipSampling

EXTENSIONS = KINDS
"""Suffixes of the files that `read_clips` is meant for, in lower case."""
_PARTS_AT_ONCE = 16
"""A decoder is opened for so many parts at a time, not for each."""


class UnreadableVideoError(UnreadableFileError):
    """A file is no whole video: the message names it and says what is wrong and what would be right."""

    def __init__(self, name: str, error: NotVideoError) -> None:
        super().__init__(f"{name}: {error}")


def read_clips(
    source: Source,
    sampling: ClipSampling,
    *,
    short_side: int | None = None,
    decoder: Decoder = "auto",
    name: str | None = None,
) -> Tensor:
    """Read clips of a video; see `ClipSampling` for which frames. Frames are turned upright where the file says how.

    A cut file is told by its last packet or by the duration in its header. GIF, MPEG streams (.mpg, .ts), WMV and live
    recordings have neither: cut, they read as shorter ones.

    Args:
        source: the file, or what it holds. Its contents decide its format, not its name.
        sampling: which frames.
        short_side: scale larger frames down until their shorter side has this many pixels: cheaper here than later.
        decoder: the library that decodes; "auto" takes the best that is there, see `describe_decoders`.
        name: what to call it in messages; the path by default.

    Returns:
        uint8 `[clips * num_frames, 3, height, width]`, RGB, in channels-last memory: torchvision resizes that faster.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableVideoError: the file is empty, cut, damaged, without video or something else altogether.
        MissingDecoderError: the decoder that is asked for, or any, is not there.
        ValueError: `short_side` is below 1.
    """
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side must be 1 pixel or more, not {short_side}")
    try:
        with open_video(source) as video:
            return _frames(video, sampling.numbers(video.index), short_side, decoder)
    except NotVideoError as error:
        raise UnreadableVideoError(name or _called(source), error) from error


class Part(NamedTuple):
    """A part of a video, from when to when in seconds, and its clips as `read_clips` returns them."""

    start: float
    end: float
    clips: Tensor


def read_parts(
    source: Source,
    sampling: ClipSampling,
    seconds: float,
    *,
    short_side: int | None = None,
    decoder: Decoder = "auto",
) -> Iterator[Part]:
    """Read a video in parts of equal length, each as if it were a whole one; few of them are in memory at a time.

    Args:
        source: the file, or what it holds.
        sampling: which frames of each part.
        seconds: about how long a part is: the nearest length that divides the video.
        short_side: of larger frames after scaling down.
        decoder: the library that decodes.

    Raises:
        FileNotFoundError, UnreadableVideoError, MissingDecoderError: as `read_clips` does.
    """
    try:
        with open_video(source) as video:
            spans = iter(equal_spans(video.index.seconds, seconds))
            while some := list(islice(spans, _PARTS_AT_ONCE)):
                numbers = [sampling.numbers(video.index, span) for span in some]
                frames = _frames(video, [number for part in numbers for number in part], short_side, decoder)
                yield from (Part(*span, clips) for span, clips in zip(some, frames.chunk(len(some)), strict=True))
    except NotVideoError as error:
        raise UnreadableVideoError(_called(source), error) from error


def read_stored_clips(
    stored: dict[str, Any], sampling: ClipSampling, *, name: str, short_side: int | None, decoder: Decoder
) -> Tensor:
    """Read clips of an undecoded video of `datasets`, as `read_clips` does.

    Args:
        stored: its `bytes`, or the `path` where they lie.
        sampling: which frames.
        name: what to call it in messages, if it has no path.
        short_side: of larger frames after scaling down.
        decoder: the library that decodes.
    """
    content, called = stored_content(stored), stored["path"] or name
    return read_clips(content, sampling, short_side=short_side, decoder=decoder, name=called)


def _frames(video: Video, numbers: Sequence[int], short_side: int | None, decoder: Decoder) -> Tensor:
    wanted = sorted(set(numbers))
    frames = decode(video, wanted, decoder, short_side)
    if numbers == wanted:
        return frames
    place = {number: position for position, number in enumerate(wanted)}
    return frames.movedim(1, -1)[[place[number] for number in numbers]].movedim(-1, 1)


def _called(source: Source) -> str:
    return f"a video of {len(source)} bytes" if isinstance(source, bytes) else str(source)
