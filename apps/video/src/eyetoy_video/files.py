"""Read clips from video files with PyAV, which carries its own FFmpeg.

A file is gone through twice. Its packets say when each frame is shown, without decoding any; then only the stretches
that hold a wanted frame are decoded. How many frames a header promises does not matter: it may say nothing, or lie.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import av
import numpy as np
import torch
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from eyetoy_train import UnreadableFileError

EXTENSIONS = (".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
"""Suffixes of the files that `read_clip` is meant for, in lower case."""

Sampling = Literal["uniform", "random"]

_UNTIMED = ("avi", "mpeg", "mpegts")  # not every frame's time is stored, and FFmpeg's guesses may be out of order
_SEEK_FROM = 12  # a seek costs about as much as decoding this many frames
_MAY_LOSE = 2  # frames that a decoder may swallow although the file is whole
_MISSING = 0.1  # a file that ends by this fraction before its header's duration was cut


class UnreadableVideoError(UnreadableFileError):
    """A file is no whole video: the message names it and says what is wrong and what would be right."""

    def __init__(self, path: Path, wrong: str) -> None:
        right = f"a whole video file that FFmpeg can decode ({' '.join(EXTENSIONS)})"
        super().__init__(f"{path}: {wrong}; expected {right}")


class _Packet(NamedTuple):
    """What a packet says about its frame, in ticks."""

    pts: int | None
    duration: int
    is_key: bool


@dataclass(frozen=True)
class _Index:
    """When a file's frames are shown. Frames are numbered from 0 in the order in which they are shown."""

    times: Sequence[int]  # of all frames, ascending, in ticks
    keys: Sequence[int]  # the numbers of the frames that decoding may start at, ascending, the first 0
    end: int  # of the last frame, in ticks
    tick: float  # in seconds
    counted: bool  # the file stores no usable times: `times` are the frames' numbers

    @property
    def seconds(self) -> float:
        return (self.end - self.times[0]) * self.tick

    def frame_at(self, time: float) -> int:
        """The number of the frame shown at `time`, in ticks."""
        return max(bisect_right(self.times, time) - 1, 0)


def read_clip(
    path: Path,
    num_frames: int,
    *,
    start: float | None = None,
    duration: float | None = None,
    sampling: Sampling = "uniform",
    short_side: int | None = None,
) -> Tensor:
    """Read `num_frames` frames, spread over a video file or over a stretch of it.

    The stretch is cut into `num_frames` parts of equal time, and each gives one frame: the one shown at its middle
    (`"uniform"`), or at a random moment of it (`"random"`, from torch's global generator). A stretch with fewer
    frames repeats some. Frames are turned upright where the file says how.

    A cut file is told by its last packet or by the duration in its header. GIF, MPEG streams (.mpg, .ts), WMV and live
    recordings have neither: cut, they read as shorter ones.

    Args:
        path: the file. Its contents decide its format, not its name.
        num_frames: frames to return.
        start: where the stretch begins, in seconds from the first frame. By default the stretch lies in the file's
            middle (`"uniform"`), or anywhere in it (`"random"`).
        duration: the stretch's length in seconds; it ends at the file's end at the latest. By default it goes on to
            the file's end.
        sampling: `"uniform"` for evaluation, `"random"` for training.
        short_side: scale larger frames down until their shorter side has this many pixels: cheaper here than later.

    Returns:
        uint8 `[num_frames, 3, height, width]`, RGB, in channels-last memory: torchvision resizes that faster.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableVideoError: the file is empty, cut, damaged, without video or something else altogether.
        ValueError: an argument is out of range, or `start` lies behind the file's end.
    """
    _check_arguments(num_frames, start, duration, sampling, short_side)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; expected the path of a video file")
    if path.stat().st_size == 0:
        raise UnreadableVideoError(path, "the file is empty (0 bytes)")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _video_stream(container, path)
            index = _read_index(container, stream, path)
            begin, length = _stretch(index, start, duration, sampling, path)
            wanted = _wanted(index, num_frames, begin, length, sampling)
            return _to_tensor(_decode(container, stream, index, wanted, path), short_side)
    except av.error.FFmpegError as error:
        raise UnreadableVideoError(path, f"FFmpeg cannot read it ({error.strerror})") from error


def _check_arguments(
    num_frames: int, start: float | None, duration: float | None, sampling: Sampling, short_side: int | None
) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, not {num_frames}")
    if start is not None and not start >= 0:
        raise ValueError(f"start must be 0 seconds or more, not {start}")
    if duration is not None and not duration > 0:
        raise ValueError(f"duration must be more than 0 seconds, not {duration}")
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling must be one of {get_args(Sampling)}, not {sampling!r}")
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side must be 1 pixel or more, not {short_side}")


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover picture of a song
            stream.codec_context.thread_count = 1  # a loader's workers are the parallelism; threads slow short clips
            return stream
    raise UnreadableVideoError(path, f"it has no video, only {[stream.type for stream in container.streams]}")


def _read_index(container: InputContainer, stream: VideoStream, path: Path) -> _Index:
    """Go through all packets, decoding none."""
    packets: list[_Packet] = []
    end = 0.0  # of all streams, in seconds: a header states the longest one's duration
    for packet in container.demux():
        if packet.is_corrupt:
            raise UnreadableVideoError(path, f"it is cut or damaged after {end:.2f} seconds")
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index == stream.index and packet.size and not packet.is_discard:
            packets.append(_Packet(packet.pts, packet.duration or 0, packet.is_keyframe))
    _check_whole(container, end, path)
    if not packets:
        raise UnreadableVideoError(path, "its video has no frames")
    counted = container.format.name in _UNTIMED or any(packet.pts is None for packet in packets)
    return _counted_index(stream, len(packets)) if counted else _timed_index(stream, packets)


def _check_whole(container: InputContainer, end: float, path: Path) -> None:
    promised, begin = (container.duration or 0) / av.time_base, (container.start_time or 0) / av.time_base
    if end - begin < (1 - _MISSING) * promised:
        raise UnreadableVideoError(path, f"it was cut: {end - begin:.2f} of its {promised:.2f} seconds are there")


def _counted_index(stream: VideoStream, num_frames: int) -> _Index:
    rate = float(stream.average_rate or stream.base_rate or 25)
    return _Index(range(num_frames), [0], num_frames, 1 / rate, counted=True)


def _timed_index(stream: VideoStream, packets: list[_Packet]) -> _Index:
    shown = sorted((packet.pts or 0, packet.duration, packet.is_key) for packet in packets)
    times = [time for time, _, _ in shown]
    keys = [number for number, (_, _, is_key) in enumerate(shown) if number == 0 or is_key]
    gaps = sorted(later - time for time, later in pairwise(times)) or [1]
    last = shown[-1][1] or gaps[len(gaps) // 2] or 1  # some formats state no durations: take the usual one
    return _Index(times, keys, times[-1] + last, float(stream.time_base or 1), counted=False)


def _stretch(
    index: _Index, start: float | None, duration: float | None, sampling: Sampling, path: Path
) -> tuple[float, float]:
    """Where the stretch begins and how long it is, in seconds."""
    if start is not None and start >= index.seconds:
        raise ValueError(f"{path}: start is {start} seconds, but the video has only {index.seconds:.2f}")
    rest = index.seconds - (start or 0)
    length = rest if duration is None else min(duration, rest)
    place = 0.5 if sampling == "uniform" else torch.rand(()).item()
    return (place * (rest - length) if start is None else start), length


def _wanted(index: _Index, num_frames: int, begin: float, length: float, sampling: Sampling) -> list[int]:
    """The numbers of the frames to return, ascending."""
    parts = torch.arange(num_frames, dtype=torch.float64)
    if sampling == "random":
        moments = begin + (parts + torch.rand(num_frames)) / num_frames * length
    else:  # the middle of a part is often the border of two frames: a little earlier, rounding cannot matter
        moments = begin + (parts + 0.5) / num_frames * length - index.seconds / len(index.times) / 4
    return [index.frame_at(index.times[0] + moment / index.tick) for moment in moments.tolist()]


def _decode(
    container: InputContainer, stream: VideoStream, index: _Index, wanted: list[int], path: Path
) -> list[VideoFrame]:
    """The frames with the wanted numbers."""
    frames: list[VideoFrame] = []
    decoded, reached = _decode_from(container, stream, index, 0), -1
    for number in wanted:
        key = index.keys[bisect_right(index.keys, number) - 1]
        if key - reached > _SEEK_FROM:
            decoded = _decode_from(container, stream, index, key)
        if reached < number:
            reached, frame = next((pair for pair in decoded if pair[0] >= number), (number, None))
            if frame is None and (not frames or number < len(index.times) - _MAY_LOSE):
                raise UnreadableVideoError(path, f"decoding ended before frame {number} of {len(index.times)}")
        frames.append(frames[-1] if frame is None else frame)
    return frames


def _decode_from(
    container: InputContainer, stream: VideoStream, index: _Index, key: int
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames from a key frame on, with their numbers."""
    container.seek(index.times[key], stream=stream)
    for count, frame in enumerate(container.decode(stream)):
        yield (count if index.counted else index.frame_at(frame.pts or 0)), frame


def _to_tensor(frames: list[VideoFrame], short_side: int | None) -> Tensor:
    """[num_frames, 3, height, width], all of the first frame's size."""
    height, width = _scaled(frames[0], short_side)
    to_rgb, area = VideoReformatter(), Interpolation.AREA
    # One thread: small frames take ten times as long with more.
    rgb = [to_rgb.reformat(frame, width, height, "rgb24", interpolation=area, threads=1) for frame in frames]
    clip = np.rot90(np.stack([frame.to_ndarray() for frame in rgb]), round(frames[0].rotation / 90), (1, 2))
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2)


def _scaled(frame: VideoFrame, short_side: int | None) -> tuple[int, int]:
    """Height and width after scaling down."""
    short = min(frame.height, frame.width)
    scale = min(short_side or short, short) / short
    return round(frame.height * scale), round(frame.width * scale)
