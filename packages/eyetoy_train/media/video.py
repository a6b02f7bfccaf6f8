"""Open video files and decode the frames that are asked for, and no others, by PyAV or torchcodec.

A file is gone through twice. PyAV says which frames it has and whether it is whole, without decoding any
(`video_index`); then either library decodes the stretches that hold a wanted frame. Both give the same frames, and the
same pixels if these have eight bits; but of a file that is shown mirrored, torchcodec applies the turn alone.
"""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eyetoy_train.media.decoders import DecoderName, Decoders, torchcodec_reason
from eyetoy_train.media.errors import NotVideoError
from eyetoy_train.media.mp4 import excess_of_samples
from eyetoy_train.media.video_index import FrameIndex, read_index

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Decoder = Literal["auto", "torchcodec", "pyav"]

Source = Path | bytes
"""A file, or its content."""

# torchcodec numbers frames by the times that it is told, and cannot do so where a file does not store them.
_TIMED, _COUNTED = "most formats", "AVI and MPEG"
DECODERS = Decoders(
    subject="videos are", extra="video", best_first={_TIMED: ("torchcodec", "pyav"), _COUNTED: ("pyav",)}
)

MOST_PIXELS = 2**25
"""Of a frame: 34 million, as 8K has."""
_SEEK_FROM = 12  # a seek costs about as much as decoding this many frames
_MAY_LOSE = 2  # frames that a decoder may swallow although the file is whole
_BLOCK = 16  # frames that are held at their full size


@dataclass(frozen=True)
class Video:
    """An open video."""

    source: Source
    container: InputContainer
    stream: VideoStream
    index: FrameIndex


def describe_decoders(decoder: Decoder = "auto") -> str:
    """Say in one line which library decodes videos here.

    Raises:
        MissingDecoderError: the decoder that is asked for, or PyAV, which goes through every file's packets, is not
            there or cannot be loaded.
    """
    DECODERS.require("pyav")
    return DECODERS.describe(decoder)


@contextmanager
def open_video(source: Source) -> Iterator[Video]:
    """Open a video by PyAV, and go through its packets.

    Raises:
        FileNotFoundError: there is no such file.
        NotVideoError: it is empty, cut, damaged, without video or something else altogether; or FFmpeg says so while
            it is open.
        MissingDecoderError: PyAV is not there.
    """
    DECODERS.require("pyav")
    import av

    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"{source} is no file; expected the path of a video file")
    if not (source if isinstance(source, bytes) else source.stat().st_size):
        raise NotVideoError("the file is empty (0 bytes)")
    if wrong := excess_of_samples(source):  # before FFmpeg allocates memory for so many
        raise NotVideoError(wrong)
    try:
        with _opened(source) as (container, stream):
            yield Video(source, container, stream, read_index(container, stream))
    except av.error.FFmpegError as error:  # also from the caller's block, where PyAV decodes
        raise NotVideoError(f"FFmpeg cannot read it ({error.strerror})") from error


@contextmanager
def _opened(source: Source) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av

    file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    with av.open(file, "r", metadata_errors="replace") as container:
        yield container, _video_stream(container)


def _video_stream(container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover picture of a song
            if stream.codec_context is None:
                raise NotVideoError("its video is coded in a way that FFmpeg does not know")
            _check_size(stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.thread_count = 1  # a loader's workers are the parallelism; threads slow short clips
            return stream
    raise NotVideoError(f"it has no video, only {[stream.type for stream in container.streams]}")


def _check_size(width: int, height: int) -> None:
    """Refuse frames that are too large to hold several of them in memory."""
    if width * height > MOST_PIXELS:
        raise NotVideoError(f"its frames are of {width} x {height} pixels", f"expected {MOST_PIXELS:,} pixels at most")


def decode(video: Video, numbers: Sequence[int], decoder: Decoder = "auto", short_side: int | None = None) -> Tensor:
    """Decode frames of a video, upright.

    Args:
        video: an open video.
        numbers: of the frames, ascending, none twice.
        decoder: the library that decodes; with "auto", a file that torchcodec cannot read is left to PyAV.
        short_side: scale larger frames down until their shorter side has this many pixels.

    Returns:
        uint8 `[frames, 3, height, width]`, RGB, all of the first frame's size, in channels-last memory.

    Raises:
        NotVideoError: the video is damaged, or the decoder that is asked for cannot number its frames.
        MissingDecoderError: that decoder is not there.
        av.error.FFmpegError: PyAV's, which `open_video` makes a NotVideoError.
    """
    chosen = DECODERS.choose(_COUNTED if video.index.sequential else _TIMED, decoder)
    try:
        return _decode(video, numbers, chosen, short_side)
    except NotVideoError:
        # The FFmpeg of the system may lack a codec that PyAV's own has.
        if decoder != "auto" or chosen == "pyav":
            raise
        return _decode(video, numbers, "pyav", short_side)


def _decode(video: Video, numbers: Sequence[int], decoder: DecoderName, short_side: int | None) -> Tensor:
    frames = _DECODE[decoder](video, numbers)
    blocks = []
    while block := list(islice(frames, _BLOCK)):
        # Scaled down block by block, since only few frames of 4K fit in memory at their full size.
        scaled = torch.from_numpy(np.stack(block)).permute(0, 3, 1, 2)  # [frames, 3, height, width], channels last
        height, width = scaled.shape[-2:]
        scale = (short_side or height) / min(height, width)
        if scale < 1:
            # torchvision's resize calls the same. In uint8 it also keeps the memory channels-last.
            size = [round(height * scale), round(width * scale)]
            scaled = F.interpolate(scaled, size, mode="bilinear", align_corners=False, antialias=True)
        blocks.append(scaled)
    return torch.cat(blocks)


def _by_pyav(video: Video, numbers: Sequence[int]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield frames `[height, width, 3]`."""
    from av.video.reformatter import Interpolation, VideoReformatter

    to_rgb = VideoReformatter()
    first = None
    for frame in _pyav_frames(video, numbers):
        first = first or frame
        # One thread: small frames take ten times as long with more.
        rgb = to_rgb.reformat(frame, first.width, first.height, "rgb24", interpolation=Interpolation.AREA, threads=1)
        yield _upright(rgb.to_ndarray(), first)


def _upright(pixels: np.ndarray[Any, Any], frame: VideoFrame) -> np.ndarray[Any, Any]:
    """Turn and mirror pixels `[height, width, 3]` as a frame's display matrix says: a phone stores how it was held.

    The matrix moves x to a * x + c * y, and y to b * x + d * y. The nearest of the eight orientations is taken.
    """
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside it are data that PyAV has no name for, such as EXIF: then it tells the angle alone
        return np.rot90(pixels, round(frame.rotation / 90))
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _pyav_frames(video: Video, numbers: Sequence[int]) -> Iterator[VideoFrame]:
    """Yield a frame for each number, decoding on from the last one or, after a wide gap, from a key frame.

    For example, with keys 0 and 100, frames 3, 5 and 120 take one pass over 0 to 5 and one over 100 to 120.
    """
    index = video.index
    decoded, reached = _pyav_frames_from(video, 0), -1
    last: VideoFrame | None = None
    before: VideoFrame | None = None
    for number in numbers:
        key = index.keys[bisect_right(index.keys, number) - 1]  # the last one at or before the frame
        if key - reached > _SEEK_FROM:
            decoded, before, last = _pyav_frames_from(video, key), None, None
        # That one may be wanted for itself as well, so the stream is read on only if it has not come as far.
        while reached < number or last is None:
            found = next(decoded, None)
            if found is None:
                break
            before, (reached, last) = last, found
        # Decoders may swallow the last frames of a whole file: then the last one there is repeated.
        if last is None or (reached < number < len(index) - _MAY_LOSE):
            raise NotVideoError(f"decoding ended before frame {number} of {len(index)}")
        # Instead of a frame that was swallowed, a player goes on showing the one before it.
        yield before if before is not None and reached > number else last


def _pyav_frames_from(video: Video, key: int) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the frames from a key frame on, with their numbers."""
    import av

    with ExitStack() as stack:
        container, stream, index = video.container, video.stream, video.index
        try:
            container.seek(0 if index.sequential else index.times[key], stream=stream)
        except av.error.PermissionError:  # FFmpeg cannot seek in a codec's own stream
            container, stream = stack.enter_context(_opened(video.source))
        number = -1
        for frame in container.decode(stream):
            _check_size(frame.width, frame.height)  # they may grow on the way
            # A seek may land at an earlier key frame than the one asked for, so the number is looked up by the time.
            number = number + 1 if index.counted or frame.pts is None else index.frame_at(frame.pts)
            yield number, frame


def _by_torchcodec(video: Video, numbers: Sequence[int]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield frames `[height, width, 3]`."""
    from torchcodec.decoders import VideoDecoder

    if video.index.sequential:
        wrong = "torchcodec cannot number the frames of AVI and MPEG, which do not store when each is shown"
        raise NotVideoError(wrong, "expected the decoder to be auto or pyav")
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
        raise NotVideoError(f"torchcodec cannot read it ({torchcodec_reason(error)})") from error


def _frame_mappings(index: FrameIndex) -> str:
    """Tell torchcodec when the frames are shown, so that it does not go through the file once more to find out."""
    keys, ends = set(index.keys), [*index.times[1:], index.end]
    frames = [
        {"pts": time, "duration": end - time, "key_frame": int(number in keys)}
        for number, (time, end) in enumerate(zip(index.times, ends, strict=True))
    ]
    return json.dumps({"frames": frames})


_DECODE: dict[DecoderName, Callable[[Video, Sequence[int]], Iterator[np.ndarray[Any, Any]]]] = {
    "pyav": _by_pyav,
    "torchcodec": _by_torchcodec,
}
