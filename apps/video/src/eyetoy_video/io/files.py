"""Read clips from video files: tensors of some of their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eyetoy_train import UnreadableFileError
from eyetoy_train.classification.task import equal_spans
from eyetoy_train.data.unreadable import refused_sample
from eyetoy_train.media.errors import NotVideoError
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_train.media.video import Decoder, Source, Video, decode, open_video
from eyetoy_train.media.video_index import FrameIndex
from eyetoy_video.transforms.sampling import ClipSampling

EXTENSIONS = VIDEO_SUFFIXES
"""Suffixes of video files, in lower case."""
_PARTS_AT_ONCE = 16
"""Parts decoded by one call: opening a decoder for each would take longer, and all at once would not fit in memory."""


class UnreadableVideoError(UnreadableFileError):
    """A video cannot be read. The message names the file, its fault and the expected value."""


def read_clips(
    source: Source,
    sampling: ClipSampling,
    *,
    short_side: int | None = None,
    decoder: Decoder = "auto",
    name: str | None = None,
) -> Tensor:
    """Read clips of a video; `ClipSampling` chooses the frames. Frames are rotated as the file's metadata say.

    A truncated file is detected by its last packet or the duration in its header. GIF, MPEG streams (.mpg, .ts), Ogg,
    WMV and live recordings have neither: truncated, they read as shorter videos.

    Args:
        source: the path of the file, or its content. The content decides the format, not the name.
        sampling: chooses the frames.
        short_side: scale larger frames down to this many pixels of the shorter side, which is cheaper here than later.
        decoder: the library that decodes; "auto" is the best one installed, see `describe_decoders`.
        name: name for messages; the path by default.

    Returns:
        uint8 `[clips * num_frames, 3, height, width]`, RGB, in channels-last memory, which torchvision resizes faster.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableVideoError: the file is empty, truncated, damaged, without video or not a video.
        MissingDecoderError: the decoder, or every one, is not installed.
        ValueError: `short_side` is below 1.
    """
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side must be 1 pixel or more, not {short_side}")
    try:
        with open_video(source) as video:
            return _frames(video, sampling.numbers(video.index), short_side, decoder)
    except NotVideoError as error:
        raise UnreadableVideoError(f"{name or _called(source)}: {error}") from error


def frame_seconds(source: Source, sampling: ClipSampling) -> list[float]:
    """Return when the frames that `read_clips` returns are shown, in seconds after the first one of the video.

    Args:
        source: the path of the file, or its content.
        sampling: chooses the frames.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableVideoError: see `read_clips`.
    """
    try:
        with open_video(source) as video:
            index = video.index
            return [(index.times[number] - index.times[0]) * index.tick for number in sampling.numbers(index)]
    except NotVideoError as error:
        raise UnreadableVideoError(f"{_called(source)}: {error}") from error


def read_array(given: Any, sampling: ClipSampling, rate: float | None) -> Tensor:
    """Return clips of a video in memory as `read_clips` returns those of a file.

    Args:
        given: uint8 `[time, height, width, 3]`, the frames in order.
        sampling: chooses the frames.
        rate: its frames per second, which matter if `sampling` counts in them.

    Raises:
        ValueError: it is no video, or `rate` is missing or not above 0.
    """
    is_video = isinstance(given, np.ndarray) and given.ndim == 4 and given.shape[3] == 3 and given.size > 0
    if not is_video or given.dtype != np.uint8:
        raise refused_sample(given, "or a clip, uint8 [time, height, width, 3]")
    if rate is None and sampling.rate is not None:
        raise ValueError(
            f"an array does not tell its frames per second, and data.frame_rate is {sampling.rate:g}; give them as "
            "rate, such as rate=25"
        )
    if rate is not None and not rate > 0:
        raise ValueError(f"rate must be above 0 frames per second; got {rate:g}")
    # Without a rate to count in, the frames that are chosen are the same at every rate.
    index = FrameIndex(range(len(given)), [0], len(given), 1 / (rate or 1.0), counted=True)
    frames = torch.from_numpy(np.ascontiguousarray(given[sampling.numbers(index)]))
    return frames.movedim(-1, 1)


class Part(NamedTuple):
    """A part of a video: its start and end in seconds, and its clips as from `read_clips`."""

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
    """Read a video in parts of equal length, each like a whole video; few of them are in memory at a time.

    Args:
        source: the path of the file, or its content.
        sampling: chooses the frames of each part.
        seconds: length of a part; the nearest one that divides the video is used.
        short_side: see `read_clips`.
        decoder: the library that decodes.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableVideoError: see `read_clips`.
        MissingDecoderError: see `read_clips`.
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
    # clips [0, 4] and [2, 4] need the frames 0, 2, 4, and return the ones at 0, 2, 1, 2 of these.
    wanted = sorted(set(numbers))
    frames = decode(video, wanted, decoder, short_side)
    if numbers == wanted:
        return frames
    place = {number: position for position, number in enumerate(wanted)}
    return frames[[place[number] for number in numbers]]


def _called(source: Source) -> str:
    return f"a video of {len(source)} bytes" if isinstance(source, bytes) else str(source)
