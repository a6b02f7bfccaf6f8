"""Choose the frames of clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from eyetoy_train.media.video_index import FrameIndex


@dataclass(frozen=True)
class ClipSampling:
    """Clips of a video, each of `num_frames` frames.

    Without a stride a clip is spread over the whole video, which is cut into `num_frames` parts of equal time with a
    frame each, as in temporal segment networks (Wang et al., ECCV 2016). With a stride, a clip is every `stride`-th
    frame of a run, as in SlowFast (Feichtenhofer et al., ICCV 2019) and its successors; if the video is shorter, its
    last frame is repeated.

    Raises:
        ValueError: a number is out of range, or there are several random clips.
    """

    num_frames: int
    """Number of frames of a clip."""
    stride: int | None = None
    """Take every n-th frame; spread the frames over the video if not given."""
    rate: float | None = None
    """Frames per second that a stride counts in; the video's rate if not given."""
    clips: int = 1
    """Number of clips, evenly spaced over the possible starts of a run, or over the time of each part."""
    random: bool = False
    """Draw the start of the run, or the moment of each part, from torch's global generator."""

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        for name in ("num_frames", "stride", "clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate must be above 0 frames per second, not {self.rate}")
        if self.random and self.clips > 1:
            raise ValueError(f"a random clip is drawn alone: clips must be 1, not {self.clips}")

    def numbers(self, index: FrameIndex, span: tuple[float, float] | None = None) -> list[int]:
        """Return the numbers of the frames of a video's clips, `[clips * num_frames]`, possibly with repetitions.

        Args:
            index: the index of the video's frames.
            span: start and end of a part to be treated as a whole video, in seconds from the first frame.
        """
        start, end = span or (0.0, index.seconds)
        # A quarter of a frame from the borders: the end is no frame's time any more, and before the start of a part are
        # frames of the one before.
        quarter = 1 / index.rate / 4
        first, last = start + quarter if span else start - quarter, end - quarter
        moments = self.moments(end - start, index.rate)
        return [index.frame_after(min(max(start + moment, first), last)) for moment in moments]

    def moments(self, seconds: float, rate: float) -> list[float]:
        """Return the times of the frames, in seconds from the first frame, `[clips * num_frames]`.

        Args:
            seconds: length of the video.
            rate: its frames per second.
        """
        evenly = [(clip + 0.5) / self.clips for clip in range(self.clips)]
        # Drawn without a stride as well, where it is not used: the random numbers after it would change.
        places = [torch.rand(()).item()] if self.random else evenly
        moments = []
        for place in places:
            if self.stride is None:
                moments += self._spread(place, seconds, rate)
            else:
                moments += self._run(place, seconds, self.rate or rate, self.stride)
        return moments

    def _spread(self, place: float, seconds: float, rate: float) -> list[float]:
        parts = torch.arange(self.num_frames, dtype=torch.float64)
        if self.random:
            moments = (parts + torch.rand(self.num_frames)) / self.num_frames * seconds
        else:
            # The middle of a part is often the border of two frames; a quarter of a frame earlier, rounding errors do
            # not decide which one is taken.
            moments = (parts + place) / self.num_frames * seconds - 1 / rate / 4
        return moments.tolist()

    def _run(self, place: float, seconds: float, rate: float, stride: int) -> list[float]:
        length = (self.num_frames - 1) * stride + 1
        num_starts = max(round(seconds * rate) - length, 0) + 1
        start = int(place * num_starts)
        # The middle of a frame, for the same reason.
        return [(start + number * stride + 0.5) / rate for number in range(self.num_frames)]
