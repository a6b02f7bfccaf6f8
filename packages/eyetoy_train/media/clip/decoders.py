"""Two libraries that decode the frames of a video that are asked for, and no others: PyAV and torchcodec."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from eyetoy_train.media.clip.choice import COUNTED, Decoder, DecoderName, choose_decoder
from eyetoy_train.media.clip.errors import NotVideoError
from eyetoy_train.media.clip.packets import FrameIndex, Video, check_size

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_SEEK_FROM = 12  # a seek costs about as much as decoding this many frames
_MAY_LOSE = 2  # frames that a decoder may swallow although the file is whole
_BLOCK = 16  # frames that are held at their full size


def decode(video: Video, numbers: Sequence[int], decoder: Decoder = "auto", short_side: int | None = None) -> Tensor:
    """Decode frames of a video, upright.

    Args:
        video: an open video.
        numbers: of the frames, ascending, none twice.
        decoder: the library that decodes; with "auto", what torchcodec cannot read is left to PyAV.
        short_side: scale larger frames down until their shorter side has this many pixels.

    Returns:
        uint8 `[frames, 3, height, width]`, RGB, all of the first frame's size, in channels-last memory.

    Raises:
        NotVideoError: the video is damaged, or the decoder that is asked for cannot number its frames.
        MissingDecoderError: that decoder is not there.
        av.error.FFmpegError: PyAV's, which `open_video` makes a NotVideoError.
    """
    chosen = choose_decoder(decoder, counted=video.index.counted)
    try:
        return _decode(video, numbers, chosen, short_side)
    except NotVideoError:
        if decoder != "auto" or chosen == "pyav":
            raise
        return _decode(video, numbers, "pyav", short_side)


def _decode(video: Video, numbers: Sequence[int], decoder: DecoderName, short_side: int | None) -> Tensor:
    frames = _DECODERS[decoder](video, numbers)
    blocks = []
    while block := list(islice(frames, _BLOCK)):
        blocks.append(_shrink(torch.from_numpy(np.stack(block)).permute(0, 3, 1, 2), short_side))
    return torch.cat(blocks)


def _shrink(frames: Tensor, short_side: int | None) -> Tensor:
    height, width = frames.shape[-2:]
    scale = (short_side or height) / min(height, width)
    if scale >= 1:
        return frames
    smaller: Tensor = v2.functional.resize(frames, [round(height * scale), round(width * scale)], antialias=True)
    return smaller


def _by_pyav(video: Video, numbers: Sequence[int]) -> Iterator[np.ndarray[Any, Any]]:
    """Give frames `[height, width, 3]`."""
    from av.video.reformatter import Interpolation, VideoReformatter

    to_rgb = VideoReformatter()
    first = None
    for frame in _pyav_frames(video, numbers):
        first = first or frame
        # One thread: small frames take ten times as long with more.
        rgb = to_rgb.reformat(frame, first.width, first.height, "rgb24", interpolation=Interpolation.AREA, threads=1)
        yield np.rot90(rgb.to_ndarray(), round(first.rotation / 90))


def _pyav_frames(video: Video, numbers: Sequence[int]) -> Iterator[VideoFrame]:
    index = video.index
    decoded, reached = _pyav_frames_from(video, 0), -1
    last: VideoFrame | None = None
    for number in numbers:
        key = index.keys[bisect_right(index.keys, number) - 1]
        if key - reached > _SEEK_FROM:
            decoded = _pyav_frames_from(video, key)
        if last is None or reached < number:
            found = next((pair for pair in decoded if pair[0] >= number), None)
            if found:
                reached, last = found
            elif last is None or number < len(index) - _MAY_LOSE:
                raise NotVideoError(f"decoding ended before frame {number} of {len(index)}")
        yield last


def _pyav_frames_from(video: Video, key: int) -> Iterator[tuple[int, VideoFrame]]:
    """Give the frames from a key frame on, with their numbers."""
    index = video.index
    video.container.seek(index.times[key], stream=video.stream)
    for count, frame in enumerate(video.container.decode(video.stream)):
        check_size(frame.width, frame.height)  # they may grow on the way
        yield (count if index.counted else index.frame_at(frame.pts or 0)), frame


def _by_torchcodec(video: Video, numbers: Sequence[int]) -> Iterator[np.ndarray[Any, Any]]:
    """Give frames `[height, width, 3]`."""
    from torchcodec.decoders import VideoDecoder

    if video.index.counted:
        raise NotVideoError(f"torchcodec cannot number the frames of {COUNTED}", "the decoder to be auto or pyav")
    try:
        decoder = VideoDecoder(
            video.source,
            stream_index=video.stream.index,
            dimension_order="NHWC",
            device="cpu",
            custom_frame_mappings=_frame_mappings(video.index),
        )
        for start in range(0, len(numbers), _BLOCK):
            yield from decoder.get_frames_at(list(numbers[start : start + _BLOCK])).data.numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        reason = re.sub(r"^.*\.cpp:\d+, ", "", str(error).partition("\n")[0]).strip()
        raise NotVideoError(f"torchcodec cannot read it ({reason})") from error


def _frame_mappings(index: FrameIndex) -> str:
    """Tell torchcodec when the frames are shown, which saves it to go through the file again."""
    keys, ends = set(index.keys), [*index.times[1:], index.end]
    frames = [
        {"pts": time, "duration": end - time, "key_frame": int(number in keys)}
        for number, (time, end) in enumerate(zip(index.times, ends, strict=True))
    ]
    return json.dumps({"frames": frames})


_DECODERS: dict[DecoderName, Callable[[Video, Sequence[int]], Iterator[np.ndarray[Any, Any]]]] = {
    "pyav": _by_pyav,
    "torchcodec": _by_torchcodec,
}
