"""When the frames of a video are shown, from the packets of its file, without decoding any.

A header may not say how many frames there are, or lie. The packets say which ones are there, when each is shown, which
ones decoding can start at, and whether the file was cut.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from eyetoy_train.media.errors import NotVideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MOST_FRAMES = 10_000_000
"""Four days at 25 frames a second."""
MICROSECONDS = 1_000_000  # the unit of a container's times
# These formats do not store when every frame is shown. FFmpeg guesses some times from the packets before.
_UNTIMED = ("avi", "mpeg", "mpegts")
# These are a codec's own streams without a container, and have no times at all.
_RAW = ("h264", "hevc", "m4v", "mpegvideo", "obu", "vvc")
# From the order of such packets FFmpeg guesses wrong times, since it does not know how far frames move.
_REORDERED = ("h264", "hevc", "vvc")
# A recording may be joined of several, each with times of its own. A longer gap in seconds is no pause within one.
_LONGEST_PAUSE = 60
# A whole file may end a little before the duration in its header, since the last frames may have no duration of their
# own and streams end at different times. One that lacks more than this fraction of its length was cut.
_MISSING = 0.1
# What these formats state as their duration is the time at which they end, which is later than their length where the
# first frame is late. Other formats state the length, and a few of their writers the end.
_STATE_THE_END = ("matroska,webm", "asf", "nut")
_SAME_END = 0.01  # of the stated duration: an end so near to it is no chance


class _Packet(NamedTuple):
    """The timing of a packet's frame, in ticks."""

    pts: int | None
    dts: int | None
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
    """Decoded frames come without times of their own, so that they are numbered by counting from the first one on."""
    sequential: bool = False
    """Times are right only if the file is read from its start; true where `counted` is."""

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


def read_index(container: InputContainer, stream: VideoStream) -> FrameIndex:
    """Go through the packets of a file, which reads it once and decodes nothing.

    Args:
        container: an open file, at its start.
        stream: that of its video.

    Raises:
        NotVideoError: it is cut or damaged, or its video has no frames or too many.
        av.error.FFmpegError: FFmpeg cannot go on.
    """
    packets: list[_Packet] = []
    read = Counter[int]()
    end = 0.0  # of all streams, in seconds: a header states the longest one's duration
    try:
        # All streams, not that of the video alone: sound that was cut or damaged tells as much about the file.
        for packet in container.demux():
            if packet.is_corrupt:
                raise NotVideoError(f"it is cut or damaged after {end:.2f} seconds")
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            read[packet.stream_index] += packet.dts is not None
            # Empty packets close each stream; discarded ones hold frames that are decoded for others' sake and never
            # shown, such as those before a cut that an edit list makes.
            if packet.stream_index == stream.index and packet.size and not packet.is_discard:
                packets.append(_Packet(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
                if len(packets) > MOST_FRAMES:
                    wrong = f"it has more than {MOST_FRAMES:,} frames"
                    raise NotVideoError(wrong, "expected it to be cut into shorter ones")
    except IndexError as error:  # PyAV looks streams up in a list that it makes when it opens the file
        raise NotVideoError("a stream begins in its middle") from error
    if packets and not packets[-1].duration:  # some formats state no durations
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
        end += _usual_duration(times, 0) * float(stream.time_base or 1)
    _refuse_cut(container, stream, read[stream.index], end)
    if not packets:
        raise NotVideoError("its video has no frames")
    if container.format.name in (*_UNTIMED, *_RAW) or any(packet.pts is None for packet in packets):
        return _sequential_index(packets, container, stream)
    return _timed_index(packets, float(stream.time_base or 1))


def _refuse_cut(container: InputContainer, stream: VideoStream, num_packets: int, end: float) -> None:
    """Refuse a file that ends before it says.

    Args:
        container: the file, read to its end.
        stream: that of its video.
        num_packets: of the video, that were read.
        end: of all streams, in seconds.

    Raises:
        NotVideoError: it was cut.
    """
    promised, begin = (container.duration or 0) / MICROSECONDS, (container.start_time or 0) / MICROSECONDS
    is_late = False
    if container.format.name in _STATE_THE_END:
        promised -= begin
    else:
        is_late = begin > 0 and abs(end - promised) <= _SAME_END * promised
    if end - begin < (1 - _MISSING) * promised and not is_late:
        raise NotVideoError(f"it was cut: {end - begin:.2f} of its {promised:.2f} seconds are there")
    listed = len(stream.index_entries) if container.format.name.startswith("mov,") else 0  # complete in its tables
    if num_packets < listed:
        raise NotVideoError(f"it was cut: {num_packets:,} of its {listed:,} frames are there")


def _sequential_index(packets: list[_Packet], container: InputContainer, stream: VideoStream) -> FrameIndex:
    """Return the index of a file that does not store all times, from FFmpeg's guesses if they can be right.

    An AVI file has a slot for every tick, which is empty or missing where the frame before it stays. FFmpeg counts
    slots. For example, frames in the slots 0, 1, 4 have these times, and the second one is shown for three ticks.
    """
    tick, is_avi = float(stream.time_base or 1), container.format.name == "avi"
    is_guess = container.format.name in _RAW or (is_avi and stream.codec_context.name in _REORDERED)
    shown = None if is_guess else _distinct(packet.pts for packet in packets)
    times = shown or _distinct(packet.dts for packet in packets)
    if times and not is_avi:
        longest = max((later - time for time, later in pairwise(times)), default=0)
        times = times if longest * tick <= _LONGEST_PAUSE else None
    if not times:
        rate = float(stream.average_rate or stream.base_rate or 25)
        return FrameIndex(range(len(packets)), [0], len(packets), 1 / rate, counted=True, sequential=True)
    end = times[-1] + _usual_duration(times, 0)
    return FrameIndex(times, [0], end, tick, counted=times is not shown, sequential=True)


def _distinct(times: Iterable[int | None]) -> list[int] | None:
    """Return times in ascending order; None if one is missing or comes twice."""
    known = list(times)
    there = {time for time in known if time is not None}
    return sorted(there) if len(there) == len(known) else None


def _timed_index(packets: list[_Packet], tick: float) -> FrameIndex:
    # Packets come in the order of decoding. A frame between two others may need both, so it is decoded after them and
    # shown before the second. For example, packets shown at 0, 3, 1, 2 become frames 0 to 3.
    shown = sorted((packet.pts or 0, packet.duration, packet.is_key) for packet in packets)
    times = [time for time, _, _ in shown]
    # Decoding can always start at the file's first frame, even if no packet says so.
    keys = [number for number, (_, _, is_key) in enumerate(shown) if number == 0 or is_key]
    return FrameIndex(times, keys, times[-1] + _usual_duration(times, shown[-1][1]), tick, counted=False)


def _usual_duration(times: Sequence[int], stated: int) -> int:
    """Return the duration of the last frame: the stated one or, where none is, the usual gap."""
    gaps = sorted(later - time for time, later in pairwise(times)) or [1]
    return stated or gaps[len(gaps) // 2] or 1
