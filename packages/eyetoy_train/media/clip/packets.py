"""When a video's frames are shown, told by its packets, by PyAV and without decoding any.

How many frames a header promises does not matter: it may say nothing, or lie.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eyetoy_train.media.clip.choice import require
from eyetoy_train.media.clip.errors import NotVideoError
from eyetoy_train.media.mp4 import excess_of_samples

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

Source = Path | bytes
"""A file, or what one holds."""

MOST_FRAMES = 10_000_000
"""Four days at 25 frames a second."""
MOST_PIXELS = 2**25
"""Of a frame: 34 million, as 8K has."""
MICROSECONDS = 1_000_000  # what a container counts in
_UNTIMED = ("avi", "mpeg", "mpegts")  # not every frame's time is stored, and FFmpeg's guesses may be out of order
_MISSING = 0.1  # a file that ends by this fraction before its header's duration was cut


class _Packet(NamedTuple):
    """What a packet says about its frame, in ticks."""

    pts: int | None
    duration: int
    is_key: bool


@dataclass(frozen=True)
class FrameIndex:
    """When a video's frames are shown. Frames are numbered from 0 in the order in which they are shown."""

    times: Sequence[int]
    """Of all frames, ascending, in ticks."""
    keys: Sequence[int]
    """Numbers of the frames that decoding may start at, ascending, the first 0."""
    end: int
    """Of the last frame, in ticks."""
    tick: float
    """In seconds."""
    counted: bool
    """The file stores no usable times: `times` are the frames' numbers."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """From the first frame's start to the last one's end."""
        return (self.end - self.times[0]) * self.tick

    @property
    def rate(self) -> float:
        """Frames per second, on average."""
        return len(self) / self.seconds

    def frame_at(self, time: float) -> int:
        """Return the number of the frame shown at `time`, in ticks; the nearest before the first and after the last."""
        return max(bisect_right(self.times, time) - 1, 0)

    def frame_after(self, seconds: float) -> int:
        """Return the number of the frame shown `seconds` after the first one's start."""
        return self.frame_at(self.times[0] + seconds / self.tick)


@dataclass(frozen=True)
class Video:
    """An open video."""

    source: Source
    container: InputContainer
    stream: VideoStream
    index: FrameIndex


@contextmanager
def open_video(source: Source) -> Iterator[Video]:
    """Open a video by PyAV, and go through its packets.

    Raises:
        FileNotFoundError: there is no such file.
        NotVideoError: it is empty, cut, damaged, without video or something else altogether; or FFmpeg says so while
            it is open.
        MissingDecoderError: PyAV is not there.
    """
    require("pyav")
    import av

    _check_filled(source)
    wrong = excess_of_samples(source)
    if wrong:
        raise NotVideoError(wrong)
    file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with av.open(file, "r", metadata_errors="replace") as container:
            stream = _video_stream(container)
            yield Video(source, container, stream, _read_index(container, stream))
    except av.error.FFmpegError as error:
        raise NotVideoError(f"FFmpeg cannot read it ({error.strerror})") from error


def check_size(width: int, height: int) -> None:
    """Refuse frames that are too large to hold several of them.

    Raises:
        NotVideoError: they are.
    """
    if width * height > MOST_PIXELS:
        raise NotVideoError(f"its frames are of {width} x {height} pixels", f"{MOST_PIXELS:,} pixels at most")


def _check_filled(source: Source) -> None:
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"{source} is no file; expected the path of a video file")
    if not (source if isinstance(source, bytes) else source.stat().st_size):
        raise NotVideoError("the file is empty (0 bytes)")


def _video_stream(container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover picture of a song
            if stream.codec_context is None:
                raise NotVideoError("its video is coded in a way that FFmpeg does not know")
            check_size(stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.thread_count = 1  # a loader's workers are the parallelism; threads slow short clips
            return stream
    raise NotVideoError(f"it has no video, only {[stream.type for stream in container.streams]}")


def _read_index(container: InputContainer, stream: VideoStream) -> FrameIndex:
    packets: list[_Packet] = []
    end = 0.0  # of all streams, in seconds: a header states the longest one's duration
    for packet in _demux(container):
        if packet.is_corrupt:
            raise NotVideoError(f"it is cut or damaged after {end:.2f} seconds")
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index == stream.index and packet.size and not packet.is_discard:
            packets.append(_Packet(packet.pts, packet.duration or 0, packet.is_keyframe))
            if len(packets) > MOST_FRAMES:
                raise NotVideoError(f"it has more than {MOST_FRAMES:,} frames", "it to be cut into shorter ones")
    _check_whole(container, end)
    if not packets:
        raise NotVideoError("its video has no frames")
    counted = container.format.name in _UNTIMED or any(packet.pts is None for packet in packets)
    return _counted_index(stream, len(packets)) if counted else _timed_index(stream, packets)


def _demux(container: InputContainer) -> Iterator[Packet[Any]]:
    try:
        yield from container.demux()
    except IndexError as error:  # PyAV knows the streams of a file's start alone
        raise NotVideoError("a stream begins in its middle") from error


def _check_whole(container: InputContainer, end: float) -> None:
    promised, begin = (container.duration or 0) / MICROSECONDS, (container.start_time or 0) / MICROSECONDS
    if end - begin < (1 - _MISSING) * promised:
        raise NotVideoError(f"it was cut: {end - begin:.2f} of its {promised:.2f} seconds are there")


def _counted_index(stream: VideoStream, num_frames: int) -> FrameIndex:
    rate = float(stream.average_rate or stream.base_rate or 25)
    return FrameIndex(range(num_frames), [0], num_frames, 1 / rate, counted=True)


def _timed_index(stream: VideoStream, packets: list[_Packet]) -> FrameIndex:
    shown = sorted((packet.pts or 0, packet.duration, packet.is_key) for packet in packets)
    times = [time for time, _, _ in shown]
    keys = [number for number, (_, _, is_key) in enumerate(shown) if number == 0 or is_key]
    gaps = sorted(later - time for time, later in pairwise(times)) or [1]
    last = shown[-1][1] or gaps[len(gaps) // 2] or 1  # some formats state no durations: take the usual one
    return FrameIndex(times, keys, times[-1] + last, float(stream.time_base or 1), counted=False)
