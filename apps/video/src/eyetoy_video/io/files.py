"""Video files as clips: tensors of some of their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from eyetoy_train import UnreadableFileError
from eyetoy_train.classification.task import equal_spans
from eyetoy_train.media.errors import NotVideoError
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_train.media.video import Decoder, Source, Video, decode, open_video
from eyetoy_video.transforms.sampling import ClipSampling

EXTENSIONS = VIDEO_SUFFIXES
"""Suffixes of the files that `read_clips` is meant for, in lower case."""
_PARTS_AT_ONCE = 16
"""Decoded by one call: opening a decoder for each would take longer, and all at once would not fit in memory."""


class UnreadableVideoError(UnreadableFileError):
    """A file is no whole video. The message says which file, what is wrong and what would be right."""


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
        raise UnreadableVideoError(f"{name or _called(source)}: {error}") from error


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
        raise UnreadableVideoError(f"{_called(source)}: {error}") from error


def _frames(video: Video, numbers: Sequence[int], short_side: int | None, decoder: Decoder) -> Tensor:
    # Clips may overlap and come in any order; each frame is decoded once, in the order of the file. For example, the
    # clips [0, 4] and [2, 4] want the frames 0, 2, 4, and give back their places 0, 2, 1, 2.
    wanted = sorted(set(numbers))
    frames = decode(video, wanted, decoder, short_side)
    if numbers == wanted:
        return frames
    place = {number: position for position, number in enumerate(wanted)}
    return frames[[place[number] for number in numbers]]


def _called(source: Source) -> str:
    return f"a video of {len(source)} bytes" if isinstance(source, bytes) else str(source)
